// Which of a stretch of keys are in a range of rows: their rows, counted from the begin of the range, and their places.

constexpr int64_t kStretch = 1024;  // keys that are looked at in one go

#if DETPROBE_FMA && !DETPROBE_AVX512
// For each mask of eight lanes, those that are set, moved to the front.
struct FrontTable {
  alignas(32) uint32_t lane[256][8];
  FrontTable() {
    for (int mask = 0; mask < 256; ++mask) {
      int count = 0;
      for (uint32_t bit = 0; bit < 8; ++bit) {
        if (mask >> bit & 1) lane[mask][count++] = bit;
      }
      while (count < 8) lane[mask][count++] = 0;
    }
  }
};
inline const FrontTable kFront;
#endif

// `row` and `place` have room for kStretch + 16.
DETPROBE_FN int64_t pick(const uint32_t* keys, int64_t count, uint32_t low, uint32_t width, uint32_t* row,
                         uint32_t* place) {
  int64_t found = 0, j = 0;
#if DETPROBE_AVX512
  const __m512i base = _mm512_set1_epi32(static_cast<int>(low)), limit = _mm512_set1_epi32(static_cast<int>(width));
  __m512i at = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (; j + 16 <= count; j += 16) {
    const __m512i own = _mm512_sub_epi32(_mm512_loadu_si512(keys + j), base);
    const __mmask16 mask = _mm512_cmplt_epu32_mask(own, limit);
    _mm512_storeu_si512(row + found, _mm512_maskz_compress_epi32(mask, own));
    _mm512_storeu_si512(place + found, _mm512_maskz_compress_epi32(mask, at));
    found += __builtin_popcount(mask);
    at = _mm512_add_epi32(at, _mm512_set1_epi32(16));
  }
#elif DETPROBE_FMA
  if (width == 0) return 0;
  const __m256i base = _mm256_set1_epi32(static_cast<int>(low)), last = _mm256_set1_epi32(static_cast<int>(width - 1));
  __m256i at = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  for (; j + 8 <= count; j += 8) {
    const __m256i own = _mm256_sub_epi32(_mm256_loadu_si256((const __m256i*)(keys + j)), base);
    const __m256i inside = _mm256_cmpeq_epi32(_mm256_min_epu32(own, last), own);
    const int mask = _mm256_movemask_ps((__m256)inside);
    const __m256i front = _mm256_load_si256((const __m256i*)kFront.lane[mask]);
    _mm256_storeu_si256((__m256i*)(row + found), _mm256_permutevar8x32_epi32(own, front));
    _mm256_storeu_si256((__m256i*)(place + found), _mm256_permutevar8x32_epi32(at, front));
    found += __builtin_popcount(static_cast<unsigned>(mask));
    at = _mm256_add_epi32(at, _mm256_set1_epi32(8));
  }
#endif
  for (; j < count; ++j) {
    const uint32_t own = keys[j] - low;
    row[found] = own;
    place[found] = static_cast<uint32_t>(j);
    found += own < width;
  }
  return found;
}
