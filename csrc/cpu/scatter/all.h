// The scatter family, compiled once per instruction set, as simd/all.h is.

namespace {

#include "../simd/vec.h"
#include "../../arith/functions.h"
#include "split.h"
#include "towers.h"
#include "pick.h"
#include "column.h"
#include "owner.h"
#include "segments.h"

}  // namespace

const ScatterSet DETPROBE_TABLE = {fold, own};
