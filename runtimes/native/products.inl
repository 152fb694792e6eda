// Sums in vectors, and products of codes: a part of kernels.inl.

// Four bytes or two words of codes, which need not begin at a multiple of four bytes.
inline int32_t word_at(const void* p) {
  int32_t word;
  __builtin_memcpy(&word, p, sizeof word);
  return word;
}

// ---- vectors of 32-bit sums --------------------------------------------------------------------------------

#if defined(__AVX512BW__)
using Sums = __m512i;
constexpr int kLanes = 16;
inline Sums load(const void* p) { return _mm512_loadu_si512(p); }
inline void store(int32_t* p, Sums v) { _mm512_storeu_si512(p, v); }
inline Sums none() { return _mm512_setzero_si512(); }
inline Sums repeat(const void* p) { return _mm512_set1_epi32(word_at(p)); }
#if defined(__AVX512VNNI__)
inline Sums pairs(Sums sum, Sums a, Sums b) { return _mm512_dpwssd_epi32(sum, a, b); }
inline Sums quads(Sums sum, Sums u, Sums s) { return _mm512_dpbusd_epi32(sum, u, s); }
#define SNNC_QUADS 1
#else
inline Sums pairs(Sums sum, Sums a, Sums b) { return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b)); }
#endif
#elif defined(__AVX2__)
using Sums = __m256i;
constexpr int kLanes = 8;
inline Sums load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline void store(int32_t* p, Sums v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
inline Sums none() { return _mm256_setzero_si256(); }
inline Sums repeat(const void* p) { return _mm256_set1_epi32(word_at(p)); }
inline Sums pairs(Sums sum, Sums a, Sums b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
#elif defined(__SSE2__)
using Sums = __m128i;
constexpr int kLanes = 4;
inline Sums load(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline void store(int32_t* p, Sums v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v); }
inline Sums none() { return _mm_setzero_si128(); }
inline Sums repeat(const void* p) { return _mm_set1_epi32(word_at(p)); }
inline Sums pairs(Sums sum, Sums a, Sums b) { return _mm_add_epi32(sum, _mm_madd_epi16(a, b)); }
#elif defined(__ARM_NEON) && defined(__aarch64__)
using Sums = int32x4_t;
constexpr int kLanes = 4;
inline Sums load(const void* p) { return vld1q_s32(static_cast<const int32_t*>(p)); }
inline void store(int32_t* p, Sums v) { vst1q_s32(p, v); }
inline Sums none() { return vdupq_n_s32(0); }
inline Sums repeat(const void* p) { return vdupq_n_s32(word_at(p)); }
inline Sums pairs(Sums sum, Sums a, Sums b) {
  const int16x8_t x = vreinterpretq_s16_s32(a), y = vreinterpretq_s16_s32(b);
  const int32x4_t low = vmull_s16(vget_low_s16(x), vget_low_s16(y));
  return vaddq_s32(sum, vpaddq_s32(low, vmull_high_s16(x, y)));
}
#else
struct Sums {
  int32_t lane[4];
};
constexpr int kLanes = 4;
inline Sums load(const void* p) {
  Sums v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
inline void store(int32_t* p, const Sums& v) { __builtin_memcpy(p, &v, sizeof v); }
inline Sums none() { return Sums{{0, 0, 0, 0}}; }
inline Sums repeat(const void* p) {
  const int32_t one = word_at(p);
  return Sums{{one, one, one, one}};
}
inline Sums pairs(Sums sum, const Sums& a, const Sums& b) {
  int16_t x[8], y[8];
  __builtin_memcpy(x, &a, sizeof x);
  __builtin_memcpy(y, &b, sizeof y);
  for (int i = 0; i < 4; ++i) {
    const uint32_t two = static_cast<uint32_t>(x[2 * i] * y[2 * i]) + static_cast<uint32_t>(x[2 * i + 1] * y[2 * i + 1]);
    sum.lane[i] = static_cast<int32_t>(static_cast<uint32_t>(sum.lane[i]) + two);
  }
  return sum;
}
#endif

// ---- products ----------------------------------------------------------------------------------------------

struct Pairs {
  static constexpr int kStep = 2;
  static constexpr int kBytes = 2;
  static inline Sums apply(Sums sum, Sums a, Sums b) { return pairs(sum, a, b); }
};
#if defined(SNNC_QUADS)
struct UnsignedRows {
  static constexpr int kStep = 4;
  static constexpr int kBytes = 1;
  static inline Sums apply(Sums sum, Sums a, Sums b) { return quads(sum, a, b); }
};
struct SignedRows {
  static constexpr int kStep = 4;
  static constexpr int kBytes = 1;
  static inline Sums apply(Sums sum, Sums a, Sums b) { return quads(sum, b, a); }
};
#endif

template <int kValue>
struct Index {
  static constexpr int value = kValue;
};

// Calls f(Index<0>), ..., f(Index<N - 1>), unrolled before anything else is optimised: sums in an array whose indices
// become constants only later are stored to memory in every step.
template <int N, int I = 0, class F>
__attribute__((always_inline)) inline void each(const F& f) {
  if constexpr (I < N) {
    f(Index<I>{});
    each<N, I + 1>(f);
  }
}
#define SNNC_EACH(NAME) [&](auto NAME) __attribute__((always_inline))

// R rows times V vectors of columns, all sums in registers. Every step takes 32 bits of each row and column.
template <class Form, int R, int V>
inline void block(const char* a, int64_t lda_bytes, const char* panel, int64_t line_bytes, int64_t steps,
                  const int32_t* start, int32_t* c, int64_t ldc) {
  Sums sum[R][V];
  each<R>(SNNC_EACH(r) {
    each<V>(SNNC_EACH(v) { sum[r.value][v.value] = start == nullptr ? none() : load(start + v.value * kLanes); });
  });
  for (int64_t k = 0; k < steps; ++k) {
    Sums b[V];
    each<V>(SNNC_EACH(v) { b[v.value] = load(panel + k * line_bytes + v.value * kLanes * 4); });
    each<R>(SNNC_EACH(r) {
      const Sums x = repeat(a + r.value * lda_bytes + k * 4);
      each<V>(SNNC_EACH(v) { sum[r.value][v.value] = Form::apply(sum[r.value][v.value], x, b[v.value]); });
    });
  }
  each<R>(SNNC_EACH(r) {
    each<V>(SNNC_EACH(v) { store(c + r.value * ldc + v.value * kLanes, sum[r.value][v.value]); });
  });
}

#if defined(__AVX512BW__)
constexpr int kRows = 6, kVectors = 4;
#elif defined(__AVX2__)
constexpr int kRows = 4, kVectors = 2;
#else
constexpr int kRows = 2, kVectors = 4;
#endif

template <class Form, int V>
inline void stripe(const char* a, int64_t lda_bytes, const char* panel, int64_t line_bytes, int64_t steps, int rows,
                   const int32_t* start, int32_t* c, int64_t ldc) {
  int r = 0;
  for (; r + kRows <= rows; r += kRows) {
    block<Form, kRows, V>(a + r * lda_bytes, lda_bytes, panel, line_bytes, steps, start, c + r * ldc, ldc);
  }
#if defined(__AVX512BW__)
  if (rows - r >= 4) {
    block<Form, 4, V>(a + r * lda_bytes, lda_bytes, panel, line_bytes, steps, start, c + r * ldc, ldc);
    r += 4;
  }
  if (rows - r >= 3) {
    block<Form, 3, V>(a + r * lda_bytes, lda_bytes, panel, line_bytes, steps, start, c + r * ldc, ldc);
    r += 3;
  }
#endif
  for (; r < rows; ++r) {
    block<Form, 1, V>(a + r * lda_bytes, lda_bytes, panel, line_bytes, steps, start, c + r * ldc, ldc);
  }
}

template <class Form>
void multiply_panel(const void* a, int64_t lda, const void* panel, int64_t depth, int rows, int width,
                    const int32_t* start, int32_t* c, int64_t ldc) {
  const char* left = static_cast<const char*>(a);
  const int64_t steps = depth / Form::kStep, lda_bytes = lda * Form::kBytes, line_bytes = int64_t{4} * width;
  for (int column = 0; column < width;) {
    const char* right = static_cast<const char*>(panel) + int64_t{4} * column;
    const int32_t* first = start == nullptr ? nullptr : start + column;
    int vectors = (width - column) / kLanes;
    if (vectors >= kVectors) {
      vectors = kVectors;
      stripe<Form, kVectors>(left, lda_bytes, right, line_bytes, steps, rows, first, c + column, ldc);
#if defined(__AVX512BW__)
    } else if (vectors == 3) {
      stripe<Form, 3>(left, lda_bytes, right, line_bytes, steps, rows, first, c + column, ldc);
#endif
    } else if (vectors >= 2) {
      vectors = 2;
      stripe<Form, 2>(left, lda_bytes, right, line_bytes, steps, rows, first, c + column, ldc);
    } else {
      vectors = 1;
      stripe<Form, 1>(left, lda_bytes, right, line_bytes, steps, rows, first, c + column, ldc);
    }
    column += vectors * kLanes;
  }
}

void product16(const int16_t* a, int64_t lda, const int16_t* panel, int64_t depth, int rows, int width,
               const int32_t* start, int32_t* c, int64_t ldc) {
  multiply_panel<Pairs>(a, lda, panel, depth, rows, width, start, c, ldc);
}
#if defined(SNNC_QUADS)
void product8_unsigned_rows(const uint8_t* a, int64_t lda, const int8_t* panel, int64_t depth, int rows, int width,
                            const int32_t* start, int32_t* c, int64_t ldc) {
  multiply_panel<UnsignedRows>(a, lda, panel, depth, rows, width, start, c, ldc);
}
void product8_signed_rows(const int8_t* a, int64_t lda, const uint8_t* panel, int64_t depth, int rows, int width,
                          const int32_t* start, int32_t* c, int64_t ldc) {
  multiply_panel<SignedRows>(a, lda, panel, depth, rows, width, start, c, ldc);
}
#endif

#if defined(SNNC_QUADS)
int64_t large_quads(const int16_t* x, int64_t count, int* lowest, int* highest) {
  const __m512i low = _mm512_set1_epi16(-128), high = _mm512_set1_epi16(127);
  __m512i least = _mm512_setzero_si512(), most = least;
  int64_t quads = 0;
  for (int64_t i = 0; i < count; i += 32) {
    const int64_t left = count - i;
    const __mmask32 live = left >= 32 ? ~__mmask32{0} : static_cast<__mmask32>((uint32_t{1} << left) - 1);
    const __m512i v = _mm512_maskz_loadu_epi16(live, x + i);
    least = _mm512_min_epi16(least, v);
    most = _mm512_max_epi16(most, v);
    const __m512i rest = _mm512_xor_si512(v, _mm512_max_epi16(_mm512_min_epi16(v, high), low));
    quads += __builtin_popcount(_mm512_test_epi64_mask(rest, rest));
  }
  alignas(64) int16_t ends[64];
  _mm512_store_si512(ends, least);
  _mm512_store_si512(ends + 32, most);
  *lowest = *highest = 0;
  for (int i = 0; i < 32; ++i) {
    *lowest = ends[i] < *lowest ? ends[i] : *lowest;
    *highest = ends[32 + i] > *highest ? ends[32 + i] : *highest;
  }
  return quads;
}

inline int note_quads(__m256i bytes, int32_t step, int count, int32_t* steps, uint32_t* quads) {
  const __mmask8 some = _mm256_test_epi32_mask(bytes, bytes);
  const __m256i places = _mm256_add_epi32(_mm256_set1_epi32(step), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(steps + count), _mm256_maskz_compress_epi32(some, places));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(quads + count), _mm256_maskz_compress_epi32(some, bytes));
  return count + __builtin_popcount(some);
}

void part16(const int16_t* x, int64_t count, int moved, uint8_t* near, const Rests& more, const Rests& less) {
  const __m512i zero = _mm512_setzero_si512(), by = _mm512_set1_epi16(static_cast<int16_t>(moved));
  int mores = 0, lesses = 0;
  for (int64_t i = 0; i < count; i += 32) {
    const int64_t left = count - i;
    const __mmask32 live = left >= 32 ? ~__mmask32{0} : static_cast<__mmask32>((uint32_t{1} << left) - 1);
    const __m512i v = _mm512_mask_add_epi16(zero, live, _mm512_maskz_loadu_epi16(live, x + i), by);
    const __m256i fits = _mm512_cvtusepi16_epi8(_mm512_max_epi16(v, zero));  // saturates
    _mm256_mask_storeu_epi8(near + i, live, fits);
    const __m512i rest = _mm512_sub_epi16(v, _mm512_cvtepu8_epi16(fits));
    if (_mm512_test_epi16_mask(rest, rest) == 0) continue;
    const int32_t step = static_cast<int32_t>(i / 4);
    mores = note_quads(_mm512_cvtepi16_epi8(_mm512_max_epi16(rest, zero)), step, mores, more.steps, more.quads);
    lesses = note_quads(_mm512_cvtepi16_epi8(_mm512_max_epi16(_mm512_sub_epi16(zero, rest), zero)), step, lesses,
                        less.steps, less.quads);
  }
  *more.count = mores;
  *less.count = lesses;
}

template <int V>
inline void add_rests(const Rests& more, const Rests& less, const char* panel, int64_t line_bytes, int32_t* c) {
  Sums sum[V], minus[V];
  each<V>(SNNC_EACH(v) {
    sum[v.value] = load(c + v.value * kLanes);
    minus[v.value] = none();
  });
  for (int n = 0; n < *more.count; ++n) {
    const char* line = panel + more.steps[n] * line_bytes;
    const Sums x = repeat(more.quads + n);
    each<V>(SNNC_EACH(v) { sum[v.value] = quads(sum[v.value], x, load(line + v.value * kLanes * 4)); });
  }
  for (int n = 0; n < *less.count; ++n) {
    const char* line = panel + less.steps[n] * line_bytes;
    const Sums x = repeat(less.quads + n);
    each<V>(SNNC_EACH(v) { minus[v.value] = quads(minus[v.value], x, load(line + v.value * kLanes * 4)); });
  }
  each<V>(SNNC_EACH(v) { store(c + v.value * kLanes, _mm512_sub_epi32(sum[v.value], minus[v.value])); });
}

void product8_rests(const Rests& more, const Rests& less, const int8_t* panel, int width, int32_t* c) {
  const char* from = reinterpret_cast<const char*>(panel);
  const int64_t line = int64_t{4} * width;
  int column = 0;
  for (; column + 4 * kLanes <= width; column += 4 * kLanes) add_rests<4>(more, less, from + 4 * column, line, c + column);
  for (; column < width; column += kLanes) add_rests<1>(more, less, from + 4 * column, line, c + column);
}
#endif

#if defined(__AMX_INT8__)
struct TileShape {
  uint8_t palette, start, reserved[14];
  uint16_t bytes[16];
  uint8_t rows[16];
};

// A constant in memory: compilers see only the first word of what the instruction reads.
alignas(64) constexpr TileShape kTiles = {1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

void begin_bytes() { _tile_loadconfig(&kTiles); }

void end_bytes() { _tile_release(); }

// Sums in tiles 0 to 3, rows in 4 and 5, columns in 6 and 7.
#define SNNC_BYTES(NAME, DOT)                                                                              \
  template <bool kTall, bool kBroad>                                                                       \
  inline void NAME(const char* a, int64_t pitch, const char* b, int64_t line, int64_t blocks, const unsigned char* live0, \
                   const unsigned char* live1) {                                                           \
    for (int64_t k = 0; k < blocks; ++k) {                                                                 \
      const bool first = live0 == nullptr || live0[k] != 0;                                                \
      const bool second = kTall && (live1 == nullptr || live1[k] != 0);                                    \
      if (!first && !second) continue;                                                                     \
      _tile_loadd(6, b + k * 16 * line, line);                                                             \
      if (kBroad) _tile_loadd(7, b + k * 16 * line + 64, line);                                            \
      if (first) {                                                                                         \
        _tile_loadd(4, a + k * 64, pitch);                                                                 \
        DOT(0, 4, 6);                                                                                      \
        if (kBroad) DOT(1, 4, 7);                                                                          \
      }                                                                                                    \
      if (second) {                                                                                        \
        _tile_loadd(5, a + 16 * pitch + k * 64, pitch);                                                    \
        DOT(2, 5, 6);                                                                                      \
        if (kBroad) DOT(3, 5, 7);                                                                          \
      }                                                                                                    \
    }                                                                                                      \
  }
SNNC_BYTES(dot_ss, _tile_dpbssd)
SNNC_BYTES(dot_us, _tile_dpbusd)
SNNC_BYTES(dot_su, _tile_dpbsud)
SNNC_BYTES(dot_uu, _tile_dpbuud)
#undef SNNC_BYTES

template <bool kTall, bool kBroad>
inline void bytes_block(const BytesProduct& job, int row, int column, int32_t* c, int64_t ldc) {
  _tile_zero(0);
  if (kBroad) _tile_zero(1);
  if (kTall) _tile_zero(2);
  if (kTall && kBroad) _tile_zero(3);
  const int64_t blocks = job.depth / 64, line = int64_t{4} * job.width;
  for (int p = 0; p < job.row_planes; ++p) {
    const char* a = static_cast<const char*>(job.rows[p]) + row * job.pitch;
    const unsigned char* live0 = p == 0 ? nullptr : job.live + row / 16 * blocks;
    const unsigned char* live1 = p == 0 ? nullptr : live0 + blocks;
    for (int q = 0; q < job.panel_planes; ++q) {
      const char* b = static_cast<const char*>(job.panels[q]) + column * 4;
      // An upper plane is signed.
      const bool rows_unsigned = job.rows_unsigned && p == 0, panels_unsigned = job.panels_unsigned && q == 0;
      if (rows_unsigned) {
        if (panels_unsigned) {
          dot_uu<kTall, kBroad>(a, job.pitch, b, line, blocks, live0, live1);
        } else {
          dot_us<kTall, kBroad>(a, job.pitch, b, line, blocks, live0, live1);
        }
      } else if (panels_unsigned) {
        dot_su<kTall, kBroad>(a, job.pitch, b, line, blocks, live0, live1);
      } else {
        dot_ss<kTall, kBroad>(a, job.pitch, b, line, blocks, live0, live1);
      }
    }
  }
  int32_t* to = c + row * ldc + column;
  _tile_stored(0, to, ldc * 4);
  if (kBroad) _tile_stored(1, to + 16, ldc * 4);
  if (kTall) _tile_stored(2, to + 16 * ldc, ldc * 4);
  if (kTall && kBroad) _tile_stored(3, to + 16 * ldc + 16, ldc * 4);
}

// Writes sums for a multiple of 16 rows: c must have room for them.
void product_bytes(const BytesProduct& job, int32_t* c, int64_t ldc) {
  for (int column = 0; column < job.width; column += 32) {
    const bool broad = job.width - column > 16;
    for (int row = 0; row < job.count; row += 32) {
      const bool tall = job.count - row > 16;
      if (tall && broad) {
        bytes_block<true, true>(job, row, column, c, ldc);
      } else if (tall) {
        bytes_block<true, false>(job, row, column, c, ldc);
      } else if (broad) {
        bytes_block<false, true>(job, row, column, c, ldc);
      } else {
        bytes_block<false, false>(job, row, column, c, ldc);
      }
    }
  }
}
#endif

void split16(const int16_t* x, int64_t count, int8_t* low, int8_t* high, unsigned char* live) {
  for (int64_t start = 0; start < count; start += 64) {
    const int64_t end = count - start < 64 ? count : start + 64;
    int any = 0;
    int64_t i = start;
#if defined(__AVX512BW__)
    __m512i rests = _mm512_setzero_si512();
    for (; i < end; i += 32) {
      const __mmask32 live = end - i >= 32 ? ~__mmask32{0} : static_cast<__mmask32>((uint32_t{1} << (end - i)) - 1);
      const __m512i v = _mm512_maskz_loadu_epi16(live, x + i);
      const __m256i near = _mm512_cvtsepi16_epi8(v);  // saturates
      const __m512i rest = _mm512_sub_epi16(v, _mm512_cvtepi8_epi16(near));
      _mm256_mask_storeu_epi8(low + i, live, near);
      _mm256_mask_storeu_epi8(high + i, live, _mm512_cvtepi16_epi8(rest));
      rests = _mm512_or_si512(rests, rest);
    }
    any = _mm512_test_epi32_mask(rests, rests);
#endif
    for (; i < end; ++i) {
      const int16_t v = x[i];
      const int16_t near = v > 127 ? static_cast<int16_t>(127) : v < -128 ? static_cast<int16_t>(-128) : v;
      low[i] = static_cast<int8_t>(near);
      high[i] = static_cast<int8_t>(v - near);
      any |= v - near;
    }
    if (any != 0) live[start / 64] = 1;
  }
}

int largest16(const int16_t* x, int64_t count) {
  int16_t low = 0, high = 0;
  for (int64_t i = 0; i < count; ++i) {
    low = x[i] < low ? x[i] : low;
    high = x[i] > high ? x[i] : high;
  }
  return high > -low ? high : -low;
}

