// Potentials to codes: a part of kernels.inl.

// ---- neurons -----------------------------------------------------------------------------------------------

inline int32_t near_place(const FireLine& line, int64_t at, int32_t v) {
  float x = static_cast<float>(v) * line.scale32[at] + line.offset32[at];
  x = x > 0.0f ? x : 0.0f;
  x = x < static_cast<float>(line.last_cell) ? x : static_cast<float>(line.last_cell);
  return static_cast<int32_t>(x);
}

inline int32_t code_of(const FireLine& line, int64_t at, int32_t v) {
  if (line.mode == kExact) {
    double x = static_cast<double>(v) * line.scale[at] + line.offset[at];
    x = x > 0.0 ? x : 0.0;
    x = x < line.last_cell ? x : line.last_cell;
    return line.cells[line.first_cell[at] + static_cast<int32_t>(x)];
  }
  const int32_t* limits = line.limits + line.first_limit[at];
  v = v < 2147483646 ? v : 2147483646;  // padding is out of reach even of what the compiler excludes
  if (line.mode == kNear) {
    const int32_t place = near_place(line, at, v);
    const uint32_t mark = line.marks[line.first_cell[at] + (place >> line.inside)];
    const int32_t behind = (place & ((1 << line.inside) - 1)) - static_cast<int32_t>(mark >> 16);
    int32_t count = static_cast<int32_t>(mark & kUnknown);
    if ((mark & kWide) == 0 && static_cast<uint32_t>(behind) >= static_cast<uint32_t>(line.window)) {
      return line.codes[count + (behind >= 0 ? 1 : 0)];
    }
    if (count != static_cast<int32_t>(kUnknown)) {
      while (v >= limits[count]) ++count;
      return line.codes[count];
    }
  }
  int32_t count = 0;
  for (int32_t half = line.steps == 0 ? 0 : int32_t{1} << (line.steps - 1); half != 0; half >>= 1) {
    count += v >= limits[count + half - 1] ? half : 0;
  }
  return line.codes[count];
}

// To the parameters of the next line.
inline void advance(FireLine* line) {
  if (line->scale != nullptr) ++line->scale, ++line->offset;
  if (line->scale32 != nullptr) ++line->scale32, ++line->offset32;
  if (line->first_cell != nullptr) ++line->first_cell;
  if (line->first_limit != nullptr) ++line->first_limit;
}

#if defined(__AVX512BW__)
// Reads 16-bit numbers; the table has room for the word that begins at its last one.
inline __m512i cell_values(__mmask16 live, __m512i at, const int16_t* cells) {
  const __m512i words = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), live, at, cells, 2);
  return _mm512_srai_epi32(_mm512_slli_epi32(words, 16), 16);
}

// The cells of 16 potentials, exact mode.
__attribute__((always_inline)) inline __m512i cells_of(const FireLine& line, int64_t at, __mmask16 live, __m512i v) {
  if (line.scale32 != nullptr) {
    const __m512 s = line.shared ? _mm512_set1_ps(line.scale32[0]) : _mm512_maskz_loadu_ps(live, line.scale32 + at);
    const __m512 o = line.shared ? _mm512_set1_ps(line.offset32[0]) : _mm512_maskz_loadu_ps(live, line.offset32 + at);
    const __m512 x = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(v), s), o);
    // From the nearest border.
    __mmask16 open = 0;  // too near to a border
    if (line.doubt > 0) {
      const __m512 away = _mm512_abs_ps(_mm512_reduce_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
      open = _mm512_mask_cmp_ps_mask(live, away, _mm512_set1_ps(line.doubt), _CMP_LE_OQ);
    }
    if (open == 0) {
      return _mm512_cvttps_epi32(_mm512_min_ps(_mm512_max_ps(x, _mm512_setzero_ps()), _mm512_set1_ps(static_cast<float>(line.last_cell))));
    }
  }
  __m512d s0, s1, o0, o1;
  if (line.shared) {
    s0 = s1 = _mm512_set1_pd(line.scale[0]);
    o0 = o1 = _mm512_set1_pd(line.offset[0]);
  } else {
    const __mmask8 low = static_cast<__mmask8>(live), high = static_cast<__mmask8>(live >> 8);
    s0 = _mm512_maskz_loadu_pd(low, line.scale + at);
    s1 = _mm512_maskz_loadu_pd(high, line.scale + at + 8);
    o0 = _mm512_maskz_loadu_pd(low, line.offset + at);
    o1 = _mm512_maskz_loadu_pd(high, line.offset + at + 8);
  }
  const __m512d none = _mm512_setzero_pd(), top = _mm512_set1_pd(line.last_cell);
  __m512d x0 = _mm512_add_pd(_mm512_mul_pd(_mm512_cvtepi32_pd(_mm512_castsi512_si256(v)), s0), o0);
  __m512d x1 = _mm512_add_pd(_mm512_mul_pd(_mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(v, 1)), s1), o1);
  x0 = _mm512_min_pd(_mm512_max_pd(x0, none), top);
  x1 = _mm512_min_pd(_mm512_max_pd(x1, none), top);
  return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvttpd_epi32(x0)), _mm512_cvttpd_epi32(x1), 1);
}

// The numbers at 32 places of a table of kBlocks times 64 words: permutations are faster than gathers.
template <int kBlocks>
inline __m512i words_at(const int16_t* table, __m512i place) {
  if constexpr (kBlocks == 1) {
    return _mm512_permutex2var_epi16(load(table), place, load(table + 32));
  } else {
    const __m512i low = words_at<kBlocks / 2>(table, place), high = words_at<kBlocks / 2>(table + 32 * kBlocks, place);
    return _mm512_mask_blend_epi16(_mm512_test_epi16_mask(place, _mm512_set1_epi16(32 * kBlocks)), low, high);
  }
}

inline void put32(int8_t* out, __mmask32 live, __m512i codes) { _mm256_mask_storeu_epi8(out, live, _mm512_cvtepi16_epi8(codes)); }
inline void put32(int16_t* out, __mmask32 live, __m512i codes) { _mm512_mask_storeu_epi16(out, live, codes); }
inline void put32(int32_t* out, __mmask32 live, __m512i codes) {
  _mm512_mask_storeu_epi32(out, static_cast<__mmask16>(live), _mm512_cvtepi16_epi32(_mm512_castsi512_si256(codes)));
  _mm512_mask_storeu_epi32(out + 16, static_cast<__mmask16>(live >> 16), _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(codes, 1)));
}

inline __m512i both16(__m512i low, __m512i high) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(low)), _mm512_cvtepi32_epi16(high), 1);
}

inline __mmask16 live_lanes(int64_t left) {
  return left >= 16 ? static_cast<__mmask16>(0xffff) : static_cast<__mmask16>((1u << left) - 1);
}

// Exact mode with a table of at most kBlocks * 64 cells.
template <int kBlocks, class T>
inline void fire_cells(const FireLine& given, const int32_t* v, int64_t count, T* out) {
  const FireLine line = given;  // stores of codes may not change it
  for (int64_t i = 0; i < count; i += 32) {
    const int64_t left = count - i;
    const __mmask16 low = live_lanes(left), high = left > 16 ? live_lanes(left - 16) : static_cast<__mmask16>(0);
    const __m512i first = cells_of(line, i, low, _mm512_maskz_loadu_epi32(low, v + i));
    const __m512i second = cells_of(line, i + 16, high, _mm512_maskz_loadu_epi32(high, v + i + 16));
    const __m512i place = both16(first, second);
    put32(out + i, static_cast<__mmask32>(low) | static_cast<__mmask32>(high) << 16, words_at<kBlocks>(line.cells, place));
  }
}

// Exact mode where codes change their sign with the potential: half of the table is enough.
template <class T>
inline void fire_folded(const FireLine& given, const int32_t* v, int64_t count, T* out) {
  const FireLine line = given;
  const __m512i last = _mm512_set1_epi16(static_cast<int16_t>(line.last_cell)), zero = _mm512_setzero_si512();
  for (int64_t i = 0; i < count; i += 32) {
    const int64_t left = count - i;
    const __mmask16 low = live_lanes(left), high = left > 16 ? live_lanes(left - 16) : static_cast<__mmask16>(0);
    const __m512i first = cells_of(line, i, low, _mm512_maskz_loadu_epi32(low, v + i));
    const __m512i second = cells_of(line, i + 16, high, _mm512_maskz_loadu_epi32(high, v + i + 16));
    const __m512i place = both16(first, second), twice = _mm512_sub_epi16(_mm512_add_epi16(place, place), last);
    const __m512i codes = words_at<kFoldedCells / 64>(line.folded, _mm512_srli_epi16(_mm512_abs_epi16(twice), 1));
    put32(out + i, static_cast<__mmask32>(low) | static_cast<__mmask32>(high) << 16,
          _mm512_mask_sub_epi16(codes, _mm512_movepi16_mask(twice), zero, codes));
  }
}

#if defined(__AVX512VNNI__)
#include "neuron_bytes.inl"
#endif

inline __m512i codes_of(const FireLine& line, int64_t at, __mmask16 live, __m512i v) {
  const __m512i zero = _mm512_setzero_si512();
  if (line.mode == kExact) {
    const __m512i first = line.shared ? _mm512_set1_epi32(line.first_cell[0]) : _mm512_maskz_loadu_epi32(live, line.first_cell + at);
    return cell_values(live, _mm512_add_epi32(cells_of(line, at, live, v), first), line.cells);
  }
  const __m512i row = line.shared ? _mm512_set1_epi32(line.first_limit[0]) : _mm512_maskz_loadu_epi32(live, line.first_limit + at);
  v = _mm512_min_epi32(v, _mm512_set1_epi32(2147483646));
  __m512i count = zero;
  for (int32_t half = line.steps == 0 ? 0 : int32_t{1} << (line.steps - 1); half != 0; half >>= 1) {
    const __m512i place = _mm512_add_epi32(_mm512_add_epi32(row, count), _mm512_set1_epi32(half - 1));
    const __m512i limit = _mm512_mask_i32gather_epi32(zero, live, place, line.limits, 4);
    count = _mm512_mask_add_epi32(count, _mm512_cmpge_epi32_mask(v, limit), count, _mm512_set1_epi32(half));
  }
  return _mm512_mask_i32gather_epi32(zero, live, count, line.codes, 4);
}

inline void put(int8_t* out, __mmask16 live, __m512i codes) { _mm_mask_storeu_epi8(out, live, _mm512_cvtepi32_epi8(codes)); }
inline void put(int16_t* out, __mmask16 live, __m512i codes) { _mm256_mask_storeu_epi16(out, live, _mm512_cvtepi32_epi16(codes)); }
inline void put(int32_t* out, __mmask16 live, __m512i codes) { _mm512_mask_storeu_epi32(out, live, codes); }

// One row of at most 31 limits for all positions: the search runs in registers.
template <class T>
inline void fire_row(const FireLine& line, const int32_t* v, int64_t count, T* out) {
  const int32_t* limits = line.limits + line.first_limit[0];
  const __m512i never = _mm512_set1_epi32(2147483647), top = _mm512_set1_epi32(2147483646);
  const uint32_t used = (uint32_t{1} << line.count) - 1, coded = (uint32_t{2} << line.count) - 1;
  const __m512i l0 = _mm512_mask_loadu_epi32(never, static_cast<__mmask16>(used), limits);
  const __m512i l1 = line.count > 16 ? _mm512_mask_loadu_epi32(never, static_cast<__mmask16>(used >> 16), limits + 16) : never;
  const __m512i c0 = _mm512_maskz_loadu_epi32(static_cast<__mmask16>(coded), line.codes);
  const __m512i c1 = line.count > 15 ? _mm512_maskz_loadu_epi32(static_cast<__mmask16>(coded >> 16), line.codes + 16) : c0;
  for (int64_t i = 0; i < count; i += 16) {
    const __mmask16 live = live_lanes(count - i);
    const __m512i x = _mm512_min_epi32(_mm512_maskz_loadu_epi32(live, v + i), top);
    __m512i place = _mm512_setzero_si512();
    for (int32_t half = int32_t{1} << (line.steps - 1); half != 0; half >>= 1) {
      const __m512i limit = _mm512_permutex2var_epi32(l0, _mm512_add_epi32(place, _mm512_set1_epi32(half - 1)), l1);
      place = _mm512_mask_add_epi32(place, _mm512_cmpge_epi32_mask(x, limit), place, _mm512_set1_epi32(half));
    }
    put(out + i, live, _mm512_permutex2var_epi32(c0, place, c1));
  }
}

// At most 31 limits at each position: all are compared.
template <class T>
inline void fire_columns(const FireLine& line, const int32_t* v, int64_t count, T* out) {
  const uint32_t coded = (uint32_t{2} << line.count) - 1;
  const __m512i c0 = _mm512_maskz_loadu_epi32(static_cast<__mmask16>(coded), line.codes);
  const __m512i c1 = line.count > 15 ? _mm512_maskz_loadu_epi32(static_cast<__mmask16>(coded >> 16), line.codes + 16) : c0;
  const __m512i minus = _mm512_set1_epi32(-1), top = _mm512_set1_epi32(2147483646);
  for (int64_t i = 0; i < count; i += 16) {
    const __mmask16 live = live_lanes(count - i);
    const __m512i x = _mm512_min_epi32(_mm512_maskz_loadu_epi32(live, v + i), top);
    __m512i place = _mm512_setzero_si512();
    const int32_t* limits = line.columns + i;
    for (int j = 0; j < line.count; ++j, limits += line.columns_pitch) {
      place = _mm512_mask_sub_epi32(place, _mm512_cmpge_epi32_mask(x, _mm512_maskz_loadu_epi32(live, limits)), place, minus);
    }
    put(out + i, live, _mm512_permutex2var_epi32(c0, place, c1));
  }
}

constexpr int32_t kLate = 256;

// Potentials whose code is open: their rows, positions, where their parameters are, and the limits below them.
struct Late {
  int32_t rows[kLate + 32], places[kLate + 32], keys[kLate + 32], counts[kLate + 32];
  int32_t count;
};

// Compares them with their limits, 16 at a time, so that the waits for memory overlap.
template <class T>
inline void settle(const FireLine& line, const int32_t* v, int64_t pitch, const Late& late, T* out, int64_t out_pitch) {
  const __m512i zero = _mm512_setzero_si512(), one = _mm512_set1_epi32(1), highest = _mm512_set1_epi32(2147483646);
  const __m512i unknown = _mm512_set1_epi32(kUnknown);
  alignas(64) int32_t potentials[16], codes[16];
  for (int32_t n = 0; n < late.count; n += 16) {
    const int32_t some = late.count - n < 16 ? late.count - n : 16;
    const __mmask16 live = live_lanes(some);
    for (int32_t i = 0; i < some; ++i) potentials[i] = v[late.rows[n + i] * pitch + late.places[n + i]];
    const __m512i key = _mm512_maskz_loadu_epi32(live, late.keys + n);
    __m512i count = _mm512_maskz_loadu_epi32(live, late.counts + n);
    if (_mm512_mask_cmpeq_epi32_mask(live, count, unknown) != 0) {
      // A row that shares no cells with others is searched, and a cell of many limits.
      for (int32_t i = 0; i < some; ++i) codes[i] = code_of(line, late.keys[n + i], potentials[i]);
    } else {
      const __m512i x = _mm512_min_epi32(_mm512_maskz_loadu_epi32(live, potentials), highest);
      const __m512i row = _mm512_mask_i32gather_epi32(zero, live, key, line.first_limit, 4);
      for (__mmask16 rising = live; rising != 0;) {
        const __m512i limit = _mm512_mask_i32gather_epi32(zero, rising, _mm512_add_epi32(row, count), line.limits, 4);
        rising = _mm512_mask_cmpge_epi32_mask(rising, x, limit);
        count = _mm512_mask_add_epi32(count, rising, count, one);
      }
      _mm512_store_si512(codes, _mm512_mask_i32gather_epi32(zero, live, count, line.codes, 4));
    }
    for (int32_t i = 0; i < some; ++i) out[late.rows[n + i] * out_pitch + late.places[n + i]] = static_cast<T>(codes[i]);
  }
}

__attribute__((always_inline)) inline __m512i near_places(const FireLine& line, __m512i v, __m512 s, __m512 o) {
  const __m512 x = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(v), s), o);
  return _mm512_cvttps_epi32(_mm512_min_ps(_mm512_max_ps(x, _mm512_setzero_ps()), _mm512_set1_ps(static_cast<float>(line.last_cell))));
}

// The limits below 16 potentials; where the code is open, those below the cell.
__attribute__((always_inline)) inline __m512i near_counts(const FireLine& line, __mmask16 live, __m512i v, __m512 s, __m512 o,
                                                          __m512i first, __mmask16* open) {
  const __m512i place = near_places(line, v, s, o);
  const __m512i cell = _mm512_add_epi32(_mm512_srl_epi32(place, _mm_cvtsi32_si128(line.inside)), first);
  const __m512i mark = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), live, cell, line.marks, 4);
  const __m512i inside = _mm512_and_si512(place, _mm512_set1_epi32((1 << line.inside) - 1));
  const __m512i behind = _mm512_sub_epi32(inside, _mm512_srli_epi32(mark, 16));
  const __m512i below = _mm512_and_si512(mark, _mm512_set1_epi32(kUnknown));
  *open = _mm512_mask_cmplt_epu32_mask(live, behind, _mm512_set1_epi32(line.window)) |
          _mm512_mask_test_epi32_mask(live, mark, _mm512_set1_epi32(kWide));
  const __mmask16 reached = _mm512_cmpge_epi32_mask(behind, _mm512_set1_epi32(line.window));
  return _mm512_mask_add_epi32(below, reached & ~*open, below, _mm512_set1_epi32(1));
}

// The same for 32 potentials, 16 bits each, with the marks of at most kNearCells cells in registers. A place inside its
// cell is less than 2^15 and a mark of no limit 2^16 - 1.
__attribute__((always_inline)) inline __m512i near_counts16(const FireLine& line, __mmask32 live, __m512i place0, __m512i place1,
                                                            __mmask32* open) {
  const __m128i bits = _mm_cvtsi32_si128(line.inside);
  const __m512i mask = _mm512_set1_epi32((1 << line.inside) - 1), window = _mm512_set1_epi16(static_cast<int16_t>(line.window));
  const __m512i cell = both16(_mm512_srl_epi32(place0, bits), _mm512_srl_epi32(place1, bits));
  const __m512i inside = both16(_mm512_and_si512(place0, mask), _mm512_and_si512(place1, mask));
  const __m512i from = words_at<kNearCells / 64>(line.marks16, cell), mark = words_at<kNearCells / 64>(line.marks16 + kNearCells, cell);
  const __m512i below = _mm512_and_si512(mark, _mm512_set1_epi16(kUnknown));
  const __mmask32 begun = _mm512_cmpge_epu16_mask(inside, from);
  const __m512i behind = _mm512_sub_epi16(inside, from);
  const __mmask32 near = _mm512_mask_cmplt_epu16_mask(begun, behind, window);
  *open = live & (near | _mm512_movepi16_mask(mark));  // kWide is the sign
  return _mm512_mask_add_epi16(below, begun & ~near & ~*open, below, _mm512_set1_epi16(1));
}

inline void note_late(Late* late, __mmask16 open, int32_t row, int32_t place, bool by_place, int32_t key, __m512i counts) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i places = _mm512_maskz_compress_epi32(open, _mm512_add_epi32(_mm512_set1_epi32(place), lanes));
  _mm512_storeu_si512(late->rows + late->count, _mm512_set1_epi32(row));
  _mm512_storeu_si512(late->places + late->count, places);
  _mm512_storeu_si512(late->keys + late->count, by_place ? places : _mm512_set1_epi32(key));
  _mm512_storeu_si512(late->counts + late->count, _mm512_maskz_compress_epi32(open, counts));
  late->count += __builtin_popcount(open);
}

// Most places give the code; potentials at the others are noted and settled afterwards. At most kBlocks * 64 codes, or
// any number with kBlocks = 0. kSmall: the marks are read into registers.
template <bool kSmall, int kBlocks, class T>
inline void fire_near(const FireLine& line, const int32_t* v, int64_t pitch, int64_t rows, int64_t count, T* out, int64_t out_pitch) {
  Late late;
  late.count = 0;
  __m512 s0 = _mm512_set1_ps(line.scale32[0]), o0 = _mm512_set1_ps(line.offset32[0]), s1 = s0, o1 = o0;
  __m512i f0 = _mm512_set1_epi32(line.first_cell[0]), f1 = f0;
  for (int64_t r = 0; r < rows; ++r) {
    if (line.by_row) {
      s0 = s1 = _mm512_set1_ps(line.scale32[r]);
      o0 = o1 = _mm512_set1_ps(line.offset32[r]);
      f0 = f1 = _mm512_set1_epi32(line.first_cell[r]);
    }
    const int32_t* from = v + r * pitch;
    for (int64_t i = 0; i < count; i += 32) {
      const int64_t left = count - i;
      const __mmask16 low = live_lanes(left), high = left > 16 ? live_lanes(left - 16) : static_cast<__mmask16>(0);
      if (!line.shared) {
        s0 = _mm512_maskz_loadu_ps(low, line.scale32 + i);
        o0 = _mm512_maskz_loadu_ps(low, line.offset32 + i);
        f0 = _mm512_maskz_loadu_epi32(low, line.first_cell + i);
        s1 = _mm512_maskz_loadu_ps(high, line.scale32 + i + 16);
        o1 = _mm512_maskz_loadu_ps(high, line.offset32 + i + 16);
        f1 = _mm512_maskz_loadu_epi32(high, line.first_cell + i + 16);
      }
      const __m512i v0 = _mm512_maskz_loadu_epi32(low, from + i), v1 = _mm512_maskz_loadu_epi32(high, from + i + 16);
      const __mmask32 live = static_cast<__mmask32>(low) | static_cast<__mmask32>(high) << 16;
      __m512i first, second;
      __mmask16 open0, open1;
      if constexpr (kSmall) {
        __mmask32 open;
        const __m512i counts = near_counts16(line, live, near_places(line, v0, s0, o0), near_places(line, v1, s1, o1), &open);
        put32(out + r * out_pitch + i, live, words_at<kBlocks>(line.codes16, counts));
        if (open == 0) continue;
        first = _mm512_cvtepi16_epi32(_mm512_castsi512_si256(counts));
        second = _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(counts, 1));
        open0 = static_cast<__mmask16>(open);
        open1 = static_cast<__mmask16>(open >> 16);
      } else {
        first = near_counts(line, low, v0, s0, o0, f0, &open0);
        second = near_counts(line, high, v1, s1, o1, f1, &open1);
        if constexpr (kBlocks != 0) {
          put32(out + r * out_pitch + i, live, words_at<kBlocks>(line.codes16, both16(first, second)));
        } else {
          const __m512i zero = _mm512_setzero_si512();
          put(out + r * out_pitch + i, low, _mm512_mask_i32gather_epi32(zero, low & ~open0, first, line.codes, 4));
          put(out + r * out_pitch + i + 16, high, _mm512_mask_i32gather_epi32(zero, high & ~open1, second, line.codes, 4));
        }
      }
      if ((open0 | open1) == 0) continue;
      const int32_t row = static_cast<int32_t>(r), key = line.by_row ? row : 0, place = static_cast<int32_t>(i);
      note_late(&late, open0, row, place, !line.shared, key, first);
      note_late(&late, open1, row, place + 16, !line.shared, key, second);
      if (late.count > kLate) {
        settle(line, v, pitch, late, out, out_pitch);
        late.count = 0;
      }
    }
  }
  settle(line, v, pitch, late, out, out_pitch);
}

template <class T>
void fire_one(const FireLine& line, const int32_t* v, int64_t count, T* out) {
  if (line.mode == kFew) {
    if (line.shared) {
      fire_row(line, v, count, out);
    } else {
      fire_columns(line, v, count, out);
    }
    return;
  }
  // One class of rows, so that the first cell is 0; FireTable fills up tables.
  if (line.mode == kExact && line.last_cell < 64) return fire_cells<1>(line, v, count, out);
  if (line.mode == kExact && line.last_cell < 256) return fire_cells<4>(line, v, count, out);
  if (line.mode == kExact && line.last_cell < 512) return fire_cells<8>(line, v, count, out);
  if (line.mode == kExact && line.folded != nullptr) return fire_folded(line, v, count, out);
  if (line.mode == kExact && line.last_cell < 1024) return fire_cells<16>(line, v, count, out);
  for (int64_t i = 0; i < count; i += 16) {
    const __mmask16 live = live_lanes(count - i);
    put(out + i, live, codes_of(line, i, live, _mm512_maskz_loadu_epi32(live, v + i)));
  }
}
#else
template <class T>
void fire_one(const FireLine& line, const int32_t* v, int64_t count, T* out) {
  if (line.shared) {
    for (int64_t i = 0; i < count; ++i) out[i] = static_cast<T>(code_of(line, 0, v[i]));
  } else {
    for (int64_t i = 0; i < count; ++i) out[i] = static_cast<T>(code_of(line, i, v[i]));
  }
}
#endif

template <class T>
void fire(const FireLine& line, const int32_t* v, int64_t pitch, int64_t rows, int64_t count, T* out, int64_t out_pitch) {
#if defined(__AVX512BW__)
  if (line.mode == kNear) {
    const bool small = line.marks16 != nullptr;
    if (line.count < 64 && small) return fire_near<true, 1>(line, v, pitch, rows, count, out, out_pitch);
    if (line.count < 256 && small) return fire_near<true, 4>(line, v, pitch, rows, count, out, out_pitch);
    if (line.count < 64) return fire_near<false, 1>(line, v, pitch, rows, count, out, out_pitch);
    if (line.count < 256) return fire_near<false, 4>(line, v, pitch, rows, count, out, out_pitch);
    if (line.count < kNearCodes) return fire_near<false, 8>(line, v, pitch, rows, count, out, out_pitch);
    return fire_near<false, 0>(line, v, pitch, rows, count, out, out_pitch);
  }
#endif
#if defined(__AVX512VNNI__)
  if (fire_by_bytes(line, v, pitch, rows, count, out, out_pitch)) return;
#endif
  FireLine here = line;
  for (int64_t r = 0; r < rows; ++r) {
    fire_one(here, v + r * pitch, count, out + r * out_pitch);
    if (line.by_row) advance(&here);
  }
}

void fire8(const FireLine& line, const int32_t* v, int64_t pitch, int64_t rows, int64_t count, int8_t* out, int64_t out_pitch) {
  fire(line, v, pitch, rows, count, out, out_pitch);
}
void fire16(const FireLine& line, const int32_t* v, int64_t pitch, int64_t rows, int64_t count, int16_t* out, int64_t out_pitch) {
  fire(line, v, pitch, rows, count, out, out_pitch);
}
void fire32(const FireLine& line, const int32_t* v, int64_t pitch, int64_t rows, int64_t count, int32_t* out, int64_t out_pitch) {
  fire(line, v, pitch, rows, count, out, out_pitch);
}

