// Exact neurons whose tables are bytes in registers, 64 potentials at a time: a part of neurons.inl. Only these functions
// need permutations of bytes (AVX-512 VBMI), so that machines without them share the other loops.

#define SNNC_BYTES __attribute__((target("avx512vbmi")))

__attribute__((always_inline)) inline __m512i places_of(const FireLine& line, int64_t at, uint64_t live, const int32_t* v) {
  const __mmask16 low = static_cast<__mmask16>(live), high = static_cast<__mmask16>(live >> 16);
  const __m512i first = cells_of(line, at, low, _mm512_maskz_loadu_epi32(low, v + at));
  return both16(first, cells_of(line, at + 16, high, _mm512_maskz_loadu_epi32(high, v + at + 16)));
}

// The bytes at 64 places, in two registers of words, of a table of kBlocks times 64.
template <int kBlocks>
SNNC_BYTES inline __m512i bytes_at(const __m512i* table, __m512i first, __m512i second) {
  const __m512i low = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi16_epi8(first)), _mm512_cvtepi16_epi8(second), 1);
  if constexpr (kBlocks == 1) {
    return _mm512_permutexvar_epi8(low, table[0]);
  } else {
    const __mmask64 bit7 = _mm512_movepi8_mask(low);
    const __m512i found = _mm512_mask_blend_epi8(bit7, _mm512_permutex2var_epi8(table[0], low, table[1]),
                                                 _mm512_permutex2var_epi8(table[2], low, table[3]));
    if constexpr (kBlocks == 4) {
      return found;
    } else {
      const __m512i upper = _mm512_mask_blend_epi8(bit7, _mm512_permutex2var_epi8(table[4], low, table[5]),
                                                   _mm512_permutex2var_epi8(table[6], low, table[7]));
      const __m512i bit8 = _mm512_set1_epi16(256);
      return _mm512_mask_blend_epi8(_mm512_kunpackd(_mm512_test_epi16_mask(second, bit8), _mm512_test_epi16_mask(first, bit8)), found, upper);
    }
  }
}

template <int kBlocks>
SNNC_BYTES void fire_bytes(FireLine line, const int32_t* v, int64_t pitch, int64_t rows, int64_t count, int8_t* out, int64_t out_pitch) {
  __m512i table[kBlocks];
  for (int block = 0; block < kBlocks; ++block) table[block] = load(line.bytes + 64 * block);
  for (int64_t r = 0; r < rows; ++r, v += pitch, out += out_pitch) {
    for (int64_t i = 0; i < count; i += 64) {
      const uint64_t live = count - i >= 64 ? ~uint64_t{0} : (uint64_t{1} << (count - i)) - 1;
      const __m512i first = places_of(line, i, live, v), second = places_of(line, i + 32, live >> 32, v);
      _mm512_mask_storeu_epi8(out + i, live, bytes_at<kBlocks>(table, first, second));
    }
    if (line.by_row) advance(&line);
  }
}

// Which codes are negative, and where their sizes are in the folded table.
inline __mmask32 fold(__m512i last, __m512i* place) {
  const __m512i twice = _mm512_sub_epi16(_mm512_add_epi16(*place, *place), last);
  *place = _mm512_srli_epi16(_mm512_abs_epi16(twice), 1);
  return _mm512_movepi16_mask(twice);
}

SNNC_BYTES void fire_folded_bytes(FireLine line, const int32_t* v, int64_t pitch, int64_t rows, int64_t count, int16_t* out, int64_t out_pitch) {
  constexpr int kBlocks = kFoldedCells / 64;
  const __m512i last = _mm512_set1_epi16(static_cast<int16_t>(line.last_cell)), zero = _mm512_setzero_si512();
  __m512i table[kBlocks];
  for (int block = 0; block < kBlocks; ++block) table[block] = load(line.bytes + 64 * block);
  for (int64_t r = 0; r < rows; ++r, v += pitch, out += out_pitch) {
    for (int64_t i = 0; i < count; i += 64) {
      const uint64_t live = count - i >= 64 ? ~uint64_t{0} : (uint64_t{1} << (count - i)) - 1;
      __m512i first = places_of(line, i, live, v), second = places_of(line, i + 32, live >> 32, v);
      const __mmask32 below = fold(last, &first), below2 = fold(last, &second);
      const __m512i sizes = bytes_at<kBlocks>(table, first, second);
      const __m512i low = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(sizes)), high = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(sizes, 1));
      _mm512_mask_storeu_epi16(out + i, static_cast<__mmask32>(live), _mm512_mask_sub_epi16(low, below, zero, low));
      _mm512_mask_storeu_epi16(out + i + 32, static_cast<__mmask32>(live >> 32), _mm512_mask_sub_epi16(high, below2, zero, high));
    }
    if (line.by_row) advance(&line);
  }
}

// Returns false where codes are not looked up like this.
inline bool fire_by_bytes(const FireLine& line, const int32_t* v, int64_t pitch, int64_t rows, int64_t count, int8_t* out, int64_t out_pitch) {
  if (line.mode != kExact || line.bytes == nullptr || line.folded != nullptr) return false;
  if (line.last_cell < 64) {
    fire_bytes<1>(line, v, pitch, rows, count, out, out_pitch);
  } else if (line.last_cell < 256) {
    fire_bytes<4>(line, v, pitch, rows, count, out, out_pitch);
  } else {
    fire_bytes<8>(line, v, pitch, rows, count, out, out_pitch);
  }
  return true;
}
inline bool fire_by_bytes(const FireLine& line, const int32_t* v, int64_t pitch, int64_t rows, int64_t count, int16_t* out, int64_t out_pitch) {
  if (line.mode != kExact || line.bytes == nullptr || line.folded == nullptr) return false;
  fire_folded_bytes(line, v, pitch, rows, count, out, out_pitch);
  return true;
}
inline bool fire_by_bytes(const FireLine&, const int32_t*, int64_t, int64_t, int64_t, int32_t*, int64_t) { return false; }
