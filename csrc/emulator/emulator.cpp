// The scheduler behind emulator.h: one fiber per thread of a block, resumed in an order that the seed decides.
#include "emulator.h"

#include <ucontext.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <numeric>
#include <random>
#include <thread>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

thread_local uint3 threadIdx, blockIdx;
thread_local dim3 blockDim, gridDim;

namespace detprobe::emulator {
namespace {

constexpr size_t kStack = 64 << 10;
constexpr unsigned char kCanaryByte = 0xC5;

enum class Wait { kNone, kYield, kBarrier, kWarp, kDone };

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  Wait wait = Wait::kNone;
  uint32_t mask = 0;
  uint64_t slot = 0;
  int site = 0;  // of its barrier, a source line; of its warp operation, a WarpOp
};

struct Block {
  ucontext_t scheduler;
  std::vector<Fiber> fibers;
  unsigned current = 0;
  const std::function<void()>* body = nullptr;
  std::exception_ptr error;
  const void* stack = nullptr;  // the scheduler's, which AddressSanitizer wants to know
  size_t stack_bytes = 0;
};

thread_local Block* running = nullptr;
thread_local uint64_t schedule_seed = 0;

Fiber& me() {
  if (running == nullptr) throw std::logic_error("a device function was called outside of a launch");
  return running->fibers[running->current];
}

// swapcontext, and word of it to AddressSanitizer, which cannot throw across a stack that it does not know.
void switch_to(ucontext_t& from, ucontext_t& to, [[maybe_unused]] const void* stack, [[maybe_unused]] size_t bytes) {
#ifdef __SANITIZE_ADDRESS__
  void* mine = nullptr;
  __sanitizer_start_switch_fiber(&mine, stack, bytes);
  swapcontext(&from, &to);
  __sanitizer_finish_switch_fiber(mine, nullptr, nullptr);
#else
  swapcontext(&from, &to);
#endif
}

void give_way(Wait wait) {
  Block* block = running;
  Fiber& fiber = me();
  fiber.wait = wait;
  switch_to(fiber.context, block->scheduler, block->stack, block->stack_bytes);
}

void trampoline() {
  Block* block = running;
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, &block->stack, &block->stack_bytes);
#endif
  try {
    (*block->body)();
  } catch (...) {
    block->error = std::current_exception();
  }
  block->fibers[block->current].wait = Wait::kDone;
  switch_to(block->fibers[block->current].context, block->scheduler, block->stack, block->stack_bytes);
}

void resume(Block& block, unsigned thread) {
  block.current = thread;
  threadIdx = {thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / (blockDim.x * blockDim.y)};
  block.fibers[thread].wait = Wait::kNone;
  switch_to(block.scheduler, block.fibers[thread].context, block.fibers[thread].stack.get(), kStack);
  if (block.error) std::rethrow_exception(block.error);
}

// Lets the lanes of a warp go on when every lane that they name has come. Throws when one never will.
bool release_warp(Block& block, unsigned begin, unsigned end) {
  bool released = false;
  for (unsigned i = begin; i < end; ++i) {
    Fiber& fiber = block.fibers[i];
    if (fiber.wait != Wait::kWarp) continue;
    bool complete = true;
    for (unsigned lane = 0; lane < 32 && begin + lane < end; ++lane) {
      if ((fiber.mask >> lane & 1) == 0) continue;
      const Fiber& other = block.fibers[begin + lane];
      if (other.wait == Wait::kDone || other.wait == Wait::kBarrier ||
          (other.wait == Wait::kWarp && (other.mask != fiber.mask || other.site != fiber.site))) {
        throw std::runtime_error("warp divergence: lane " + std::to_string(i - begin) + " waits for lane " +
                                 std::to_string(lane) + ", which is " +
                                 (other.wait == Wait::kDone ? "gone" : "at another instruction"));
      }
      complete = complete && other.wait == Wait::kWarp;
    }
    if (!complete) continue;
    const uint32_t mask = fiber.mask;
    for (unsigned lane = 0; lane < 32 && begin + lane < end; ++lane) {
      if (mask >> lane & 1) block.fibers[begin + lane].wait = Wait::kNone;
    }
    released = true;
  }
  return released;
}

void run_block(Block& block, std::mt19937_64& order_of) {
  const unsigned n = static_cast<unsigned>(block.fibers.size());
  for (Fiber& fiber : block.fibers) {
    getcontext(&fiber.context);
    if (!fiber.stack) fiber.stack.reset(new char[kStack]);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    fiber.wait = Wait::kNone;
    makecontext(&fiber.context, trampoline, 0);
  }
  std::vector<unsigned> order(n);
  std::iota(order.begin(), order.end(), 0u);
  if (schedule_seed == 1) std::reverse(order.begin(), order.end());
  for (;;) {
    if (schedule_seed > 1) std::shuffle(order.begin(), order.end(), order_of);
    for (unsigned i : order) {
      // A coin per turn: threads drift apart by several steps, not by one at the most.
      if (schedule_seed > 1 && (order_of() & 1)) continue;
      if (block.fibers[i].wait == Wait::kNone || block.fibers[i].wait == Wait::kYield) resume(block, i);
    }
    unsigned done = 0, barrier = 0, ready = 0;
    for (const Fiber& fiber : block.fibers) {
      done += fiber.wait == Wait::kDone;
      barrier += fiber.wait == Wait::kBarrier;
      ready += fiber.wait == Wait::kNone || fiber.wait == Wait::kYield;
    }
    if (done == n) return;
    if (ready > 0) continue;
    bool released = false;
    for (unsigned begin = 0; begin < n; begin += 32)
      released = release_warp(block, begin, std::min(n, begin + 32)) || released;
    if (released) continue;
    if (barrier == n) {
      for (Fiber& fiber : block.fibers) {
        if (fiber.site != block.fibers[0].site) {
          throw std::runtime_error("barrier divergence: threads wait at the barriers of line " +
                                   std::to_string(block.fibers[0].site) + " and of line " + std::to_string(fiber.site));
        }
        fiber.wait = Wait::kNone;
      }
      continue;
    }
    throw std::runtime_error("barrier divergence: " + std::to_string(barrier) + " of " + std::to_string(n) +
                             " threads wait at __syncthreads, " + std::to_string(done) + " have exited");
  }
}

}  // namespace

void set_seed(uint64_t seed) { schedule_seed = seed; }

void run(dim3 grid, dim3 block_size, const std::function<void()>& body) {
  static thread_local Block kept;  // keeps its stacks from launch to launch
  Block& block = kept;             // the caller's, for the threads below
  const unsigned threads = block_size.x * block_size.y * block_size.z;
  if (threads == 0 || threads > 1024) throw std::invalid_argument("a block has 1 to 1024 threads");
  if (block.fibers.size() != threads) block.fibers = std::vector<Fiber>(threads);
  block.body = &body;
  block.error = nullptr;
  blockDim = block_size;
  gridDim = grid;
  std::mt19937_64 random(schedule_seed);
  std::vector<unsigned> order(static_cast<size_t>(grid.x) * grid.y * grid.z);
  std::iota(order.begin(), order.end(), 0u);
  if (schedule_seed == 1) std::reverse(order.begin(), order.end());
  if (schedule_seed > 1) std::shuffle(order.begin(), order.end(), random);
  const uint64_t seed = schedule_seed;
  try {
    for (unsigned i : order) {
      std::exception_ptr error;
      // A host thread per block: shared memory is thread_local and starts anew, so that what an earlier block left
      // there cannot stand in for what this one forgot to wait for.
      std::thread([&] {
        schedule_seed = seed;
        blockDim = block_size;
        gridDim = grid;
        running = &block;
        blockIdx = {i % grid.x, i / grid.x % grid.y, i / (grid.x * grid.y)};
        try {
          run_block(block, random);
        } catch (...) {
          error = std::current_exception();
        }
      }).join();
      if (error) std::rethrow_exception(error);
    }
  } catch (...) {
    running = nullptr;
    block.fibers.clear();  // half-run fibers are not resumed: their frames are dropped with their stacks
    throw;
  }
  running = nullptr;
}

void at_barrier(int site) {
  me().site = site;
  give_way(Wait::kBarrier);
}
void at_atomic() { give_way(Wait::kYield); }
int lane_id() { return static_cast<int>(running->current % 32); }

int warp_width() {
  const unsigned begin = running->current / 32 * 32;
  return static_cast<int>(std::min<size_t>(running->fibers.size() - begin, 32));
}

void at_warp(uint32_t mask, WarpOp op) {
  // Lanes beyond the block's end do not exist, and no mask can wait for them.
  const int width = warp_width();
  const uint32_t live = width == 32 ? 0xFFFFFFFFu : (1u << width) - 1;
  if ((mask >> lane_id() & 1) == 0) throw std::runtime_error("warp operation: the calling lane is not in its own mask");
  me().mask = mask & live;
  me().site = static_cast<int>(op);
  give_way(Wait::kWarp);
}

uint64_t exchange(uint32_t mask, uint64_t value, int lane) {
  me().slot = value;
  at_warp(mask, WarpOp::kShuffle);
  const unsigned from = running->current / 32 * 32 + static_cast<unsigned>(lane);
  const bool there = lane < warp_width() && (mask >> lane & 1);
  // A lane that takes no part has no value: the device leaves it undefined, here it is a pattern that shows.
  const uint64_t got = there ? running->fibers[from].slot : 0xBADBADBADBADBADBull;
  at_warp(mask, WarpOp::kSync);
  return got;
}

uint32_t gather_votes(uint32_t mask, bool vote) {
  me().slot = vote;
  at_warp(mask, WarpOp::kVote);
  uint32_t votes = 0;
  const unsigned begin = running->current / 32 * 32;
  for (int lane = 0; lane < warp_width(); ++lane) {
    if ((mask >> lane & 1) && running->fibers[begin + static_cast<unsigned>(lane)].slot) votes |= 1u << lane;
  }
  at_warp(mask, WarpOp::kSync);
  return votes;
}

Guarded::Guarded(size_t bytes) : memory_(bytes + 2 * kCanary, kCanaryByte) {}

void Guarded::check() const {
  for (size_t i = 0; i < kCanary; ++i) {
    if (memory_[i] != kCanaryByte) throw std::runtime_error("overrun: a kernel wrote before its buffer");
    if (memory_[memory_.size() - 1 - i] != kCanaryByte)
      throw std::runtime_error("overrun: a kernel wrote behind its buffer");
  }
}

}  // namespace detprobe::emulator
