// The atomic sum on a CPU: threads that add to shared places by compare-exchange, as they come.
//
// All threads meet at a barrier before each run, so that they add at the same time from the first number on; each has a
// core of its own while there are enough, since a busy system would let two take turns on one. What comes out is truly
// nondeterministic: nothing here chooses an order.
#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "../arith/fp.h"
#include "atomic_add.h"

namespace detprobe::probes {
namespace {

class Barrier {
 public:
  explicit Barrier(int threads) : threads_(threads) {}

  void wait() {
    const int64_t round = round_.load();
    if (arrived_.fetch_add(1) + 1 == threads_) {
      arrived_.store(0);
      round_.store(round + 1);
      return;
    }
    // Spinning starts all threads within a fraction of a microsecond. Where there is one core, others have to run.
    for (int spins = 0; round_.load() == round; ++spins) {
      if (spins > 10000) std::this_thread::yield();
    }
  }

 private:
  const int threads_;
  std::atomic<int> arrived_{0};
  std::atomic<int64_t> round_{0};
};

// Keeps the calling thread on the t-th of the cores that the process may use. A system that refuses is no error.
void stay_on_core(int t) {
  cpu_set_t allowed, mine;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  int skip = t % CPU_COUNT(&allowed), core = 0;
  for (; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &allowed) && skip-- == 0) break;
  }
  CPU_ZERO(&mine);
  CPU_SET(core, &mine);
  pthread_setaffinity_np(pthread_self(), sizeof mine, &mine);
}

template <class T>
struct WordOf {
  using type = uint16_t;
};
template <>
struct WordOf<float> {
  using type = uint32_t;
};
template <>
struct WordOf<double> {
  using type = uint64_t;
};

template <class T>
void add_atomically(std::atomic<typename WordOf<T>::type>& at, T value) {
  using Word = typename WordOf<T>::type;
  Word seen = at.load(std::memory_order_relaxed);
  const auto sum = [&] { return bits_as<Word>(narrow<T>(add(widen(bits_as<T>(seen)), widen(value)))); };
  while (!at.compare_exchange_weak(seen, sum(), std::memory_order_relaxed)) {
  }
}

template <class T>
class Race {
 public:
  Race(const T* x, int64_t n, int64_t bins, int threads, int64_t chunk, int64_t runs)
      : x_(x), n_(n), bins_(bins), chunk_(chunk), runs_(runs), threads_(threads), sums_(bins), barrier_(threads) {}

  void run(T* sums, uint32_t* tickets, double* seconds) {
    const int64_t chunks = (n_ + chunk_ - 1) / chunk_;
    std::vector<std::thread> workers;  // the caller only waits, and keeps its own cores
    try {
      for (int t = 0; t < threads_; ++t) {
        workers.emplace_back([this, t, tickets, chunks, sums, seconds] {
          stay_on_core(t);
          while (start_.load() == kWait) std::this_thread::yield();
          if (start_.load() == kGo) work(t, tickets, chunks, sums, seconds);
        });
      }
      start_.store(kGo);
    } catch (...) {  // the system has no thread left: those that wait go home first
      start_.store(kLeave);
      for (std::thread& worker : workers) worker.join();
      throw;
    }
    for (std::thread& worker : workers) worker.join();
  }

 private:
  using Clock = std::chrono::steady_clock;
  enum Start { kWait, kGo, kLeave };

  // Thread 0 sets up each run and takes its result away, while the others wait.
  void work(int thread, uint32_t* tickets, int64_t chunks, T* sums, double* seconds) {
    for (int64_t run = 0; run < runs_; ++run) {
      if (thread == 0) {
        for (auto& sum : sums_) sum.store(0);
        next_.store(0);
      }
      barrier_.wait();
      const Clock::time_point start = Clock::now();
      for (int64_t c = thread; c < chunks; c += threads_) {
        tickets[run * chunks + c] = next_.fetch_add(1, std::memory_order_relaxed);
        const int64_t end = (c + 1) * chunk_ < n_ ? (c + 1) * chunk_ : n_;
        for (int64_t i = c * chunk_; i < end; ++i) add_atomically<T>(sums_[static_cast<size_t>(i % bins_)], x_[i]);
      }
      barrier_.wait();
      if (thread != 0) continue;
      seconds[run] = std::chrono::duration<double>(Clock::now() - start).count();
      for (int64_t b = 0; b < bins_; ++b) sums[run * bins_ + b] = bits_as<T>(sums_[static_cast<size_t>(b)].load());
    }
  }

  const T* x_;
  const int64_t n_, bins_, chunk_, runs_;
  const int threads_;
  std::vector<std::atomic<typename WordOf<T>::type>> sums_;
  std::atomic<uint32_t> next_{0};
  std::atomic<int> start_{kWait};
  Barrier barrier_;
};

}  // namespace

void add_by_threads(Type type, const void* x, int64_t n, int64_t bins, int threads, int64_t chunk, int64_t runs,
                    void* sums, uint32_t* tickets, double* seconds) {
  with_type<half_t, bfloat_t>(type, [&](auto of) {
    using T = decltype(of);
    Race<T>(static_cast<const T*>(x), n, bins, threads, chunk, runs).run(static_cast<T*>(sums), tickets, seconds);
  });
}

}  // namespace detprobe::probes
