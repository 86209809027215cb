// Everything that is compiled once per instruction set. The file that includes this has included std.h before its
// target pragma, and defines DETPROBE_TABLE, DETPROBE_NAME, DETPROBE_BYTES and what instructions there are.

namespace {

constexpr int64_t kGrain = 32768;  // elements that are worth another thread

#include "vec.h"
#include "../../arith/functions.h"
#include "../../arith/steps.h"
#include "../../arith/ops.h"
#include "lanes.h"
#include "fetch.h"
#include "map.h"
#include "columns.h"
#include "blocks.h"
#include "panel.h"
#include "rows.h"
#include "scan.h"
#include "table.h"

}  // namespace

const InstructionSet DETPROBE_TABLE = {DETPROBE_NAME, run, scan};
