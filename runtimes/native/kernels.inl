// The loops of kernels.h, compiled once for each instruction set: SNNC_TABLE names the table that this copy
// fills. Nothing here may use an inline function of a library: such a function would be merged with copies
// compiled for lesser machines. Loops without intrinsics are left to the compiler's vectoriser.

#include "kernels.h"

#if defined(__AVX2__) || defined(__AVX512BW__) || defined(__SSE2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace snnc {
namespace {

// ---- vectors of 32-bit sums --------------------------------------------------------------------------------

#if defined(__AVX512BW__)
using Sums = __m512i;
constexpr int kLanes = 16;
inline Sums load(const void* p) { return _mm512_loadu_si512(p); }
inline void store(int32_t* p, Sums v) { _mm512_storeu_si512(p, v); }
inline Sums none() { return _mm512_setzero_si512(); }
inline Sums repeat(const void* p) { return _mm512_set1_epi32(static_cast<const int32_t*>(p)[0]); }
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
inline Sums repeat(const void* p) { return _mm256_set1_epi32(static_cast<const int32_t*>(p)[0]); }
inline Sums pairs(Sums sum, Sums a, Sums b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
#elif defined(__SSE2__)
using Sums = __m128i;
constexpr int kLanes = 4;
inline Sums load(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline void store(int32_t* p, Sums v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v); }
inline Sums none() { return _mm_setzero_si128(); }
inline Sums repeat(const void* p) { return _mm_set1_epi32(static_cast<const int32_t*>(p)[0]); }
inline Sums pairs(Sums sum, Sums a, Sums b) { return _mm_add_epi32(sum, _mm_madd_epi16(a, b)); }
#elif defined(__ARM_NEON) && defined(__aarch64__)
using Sums = int32x4_t;
constexpr int kLanes = 4;
inline Sums load(const void* p) { return vld1q_s32(static_cast<const int32_t*>(p)); }
inline void store(int32_t* p, Sums v) { vst1q_s32(p, v); }
inline Sums none() { return vdupq_n_s32(0); }
inline Sums repeat(const void* p) { return vdupq_n_s32(static_cast<const int32_t*>(p)[0]); }
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
  int32_t one;
  __builtin_memcpy(&one, p, sizeof one);
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

// R rows times V vectors of columns, all sums in registers. Every step takes 32 bits of each row and column.
template <class Form, int R, int V>
inline void block(const char* a, int64_t lda_bytes, const char* panel, int64_t line_bytes, int64_t steps,
                  const int32_t* start, int32_t* c, int64_t ldc) {
  Sums sum[R][V];
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) sum[r][v] = start == nullptr ? none() : load(start + v * kLanes);
  }
  for (int64_t k = 0; k < steps; ++k) {
    Sums b[V];
    for (int v = 0; v < V; ++v) b[v] = load(panel + k * line_bytes + v * kLanes * 4);
    for (int r = 0; r < R; ++r) {
      const Sums x = repeat(a + r * lda_bytes + k * 4);
      for (int v = 0; v < V; ++v) sum[r][v] = Form::apply(sum[r][v], x, b[v]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) store(c + r * ldc + v * kLanes, sum[r][v]);
  }
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

// ---- neurons -----------------------------------------------------------------------------------------------

inline int32_t near_cell(const FireLine& line, int64_t at, int32_t v) {
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
    const int32_t cell = line.cells[line.first_cell[at] + near_cell(line, at, v)];
    if (cell > kUndecided + kUnknown) return cell;
    if (cell < kUndecided + kUnknown) {
      int32_t count = cell - kUndecided;
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

#if defined(__AVX512BW__)
// Reads 16-bit numbers; the table has room for the word that begins at its last one.
inline __m512i cell_values(__mmask16 live, __m512i at, const int16_t* cells) {
  const __m512i words = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), live, at, cells, 2);
  return _mm512_srai_epi32(_mm512_slli_epi32(words, 16), 16);
}

inline __m512i codes_of(const FireLine& line, int64_t at, __mmask16 live, __m512i v) {
  const __m512i zero = _mm512_setzero_si512();
  if (line.mode == kExact) {
    const __m512i first = line.shared ? _mm512_set1_epi32(line.first_cell[0]) : _mm512_maskz_loadu_epi32(live, line.first_cell + at);
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
    const __m512i cell = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvttpd_epi32(x0)), _mm512_cvttpd_epi32(x1), 1);
    if (line.last_cell < 64) {
      // One class of rows, so `first` is 0; 64 words are two registers.
      const __m512i words = _mm512_permutex2var_epi16(load(line.cells), cell, load(line.cells + 32));
      return _mm512_srai_epi32(_mm512_slli_epi32(words, 16), 16);
    }
    return cell_values(live, _mm512_add_epi32(cell, first), line.cells);
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

inline __mmask16 live_lanes(int64_t left) {
  return left >= 16 ? static_cast<__mmask16>(0xffff) : static_cast<__mmask16>((1u << left) - 1);
}

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

// Potentials in undecided cells: their rows, positions, where their parameters are, and values of cells.
struct Late {
  int32_t rows[kLate + 32], places[kLate + 32], keys[kLate + 32], cells[kLate + 32];
  int32_t count;
};

// Compares them with their limits, 16 at a time, so that the waits for memory overlap.
template <class T>
inline void settle(const FireLine& line, const int32_t* v, int64_t pitch, const Late& late, T* out, int64_t out_pitch) {
  const __m512i zero = _mm512_setzero_si512(), one = _mm512_set1_epi32(1), highest = _mm512_set1_epi32(2147483646);
  const __m512i base = _mm512_set1_epi32(kUndecided), unknown = _mm512_set1_epi32(kUnknown);
  alignas(64) int32_t potentials[16], codes[16];
  for (int32_t n = 0; n < late.count; n += 16) {
    const int32_t some = late.count - n < 16 ? late.count - n : 16;
    const __mmask16 live = live_lanes(some);
    for (int32_t i = 0; i < some; ++i) potentials[i] = v[late.rows[n + i] * pitch + late.places[n + i]];
    const __m512i key = _mm512_maskz_loadu_epi32(live, late.keys + n);
    __m512i count = _mm512_sub_epi32(_mm512_maskz_loadu_epi32(live, late.cells + n), base);
    if (_mm512_mask_cmpeq_epi32_mask(live, count, unknown) != 0) {
      // A row that shares no cells with others is searched.
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

// Most cells give the code; potentials in the others are noted and settled afterwards.
template <class T>
inline void fire_near(const FireLine& line, const int32_t* v, int64_t pitch, int64_t rows, int64_t count, T* out, int64_t out_pitch) {
  Late late;
  late.count = 0;
  const __m512 top = _mm512_set1_ps(static_cast<float>(line.last_cell));
  const __m512i undecided = _mm512_set1_epi32(kUndecided + kUnknown), highest = _mm512_set1_epi32(2147483646);
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  __m512 s = _mm512_set1_ps(line.scale32[0]), o = _mm512_set1_ps(line.offset32[0]);
  __m512i first = _mm512_set1_epi32(line.first_cell[0]);
  for (int64_t r = 0; r < rows; ++r) {
    if (line.by_row) {
      s = _mm512_set1_ps(line.scale32[r]);
      o = _mm512_set1_ps(line.offset32[r]);
      first = _mm512_set1_epi32(line.first_cell[r]);
    }
    for (int64_t i = 0; i < count; i += 16) {
      const __mmask16 live = live_lanes(count - i);
      if (!line.shared) {
        s = _mm512_maskz_loadu_ps(live, line.scale32 + i);
        o = _mm512_maskz_loadu_ps(live, line.offset32 + i);
        first = _mm512_maskz_loadu_epi32(live, line.first_cell + i);
      }
      const __m512i potential = _mm512_min_epi32(_mm512_maskz_loadu_epi32(live, v + r * pitch + i), highest);
      __m512 x = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(potential), s), o);
      x = _mm512_min_ps(_mm512_max_ps(x, _mm512_setzero_ps()), top);
      const __m512i codes = cell_values(live, _mm512_add_epi32(_mm512_cvttps_epi32(x), first), line.cells);
      put(out + r * out_pitch + i, live, codes);
      const __mmask16 open = _mm512_mask_cmple_epi32_mask(live, codes, undecided);
      const __m512i place = _mm512_add_epi32(_mm512_set1_epi32(static_cast<int32_t>(i)), lanes);
      _mm512_storeu_si512(late.rows + late.count, _mm512_set1_epi32(static_cast<int32_t>(r)));
      _mm512_storeu_si512(late.places + late.count, _mm512_maskz_compress_epi32(open, place));
      const __m512i key = line.shared ? _mm512_set1_epi32(line.by_row ? static_cast<int32_t>(r) : 0) : place;
      _mm512_storeu_si512(late.keys + late.count, _mm512_maskz_compress_epi32(open, key));
      _mm512_storeu_si512(late.cells + late.count, _mm512_maskz_compress_epi32(open, codes));
      late.count += __builtin_popcount(open);
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
    fire_near(line, v, pitch, rows, count, out, out_pitch);
    return;
  }
#endif
  FireLine here = line;
  for (int64_t r = 0; r < rows; ++r) {
    fire_one(here, v + r * pitch, count, out + r * out_pitch);
    if (!line.by_row) continue;
    if (here.scale != nullptr) ++here.scale, ++here.offset;
    if (here.scale32 != nullptr) ++here.scale32, ++here.offset32;
    if (here.first_cell != nullptr) ++here.first_cell;
    if (here.first_limit != nullptr) ++here.first_limit;
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

// ---- elementwise -------------------------------------------------------------------------------------------

template <class T>
inline void quotient(const T* v, double factor, double gain, int64_t count, int32_t* out) {
  const double inverse = 1.0 / gain;
  for (int64_t i = 0; i < count; ++i) {
    const double x = static_cast<double>(v[i]) * factor;
    double q = __builtin_floor(x * inverse);  // off by one at most: settled by the exact remainder
    const double rest = x - q * gain;
    q += rest >= gain ? 1.0 : 0.0;
    q -= rest < 0.0 ? 1.0 : 0.0;
    out[i] = static_cast<int32_t>(q);
  }
}
void quotient32(const int32_t* v, double factor, double gain, int64_t count, int32_t* out) { quotient(v, factor, gain, count, out); }
void quotient64(const int64_t* v, double factor, double gain, int64_t count, int32_t* out) { quotient(v, factor, gain, count, out); }

// Sums and products wrap as the standard operators' do; the compiler proved that they do not.
inline int32_t wrapped_add(int32_t a, int32_t b) { return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b)); }
inline int32_t wrapped_multiply(int32_t a, int32_t b) { return static_cast<int32_t>(static_cast<uint32_t>(a) * static_cast<uint32_t>(b)); }

void add(const int32_t* a, const int32_t* b, int b_step, int64_t count, int32_t* out) {
  if (b_step == 0) {
    const int32_t one = b[0];
    for (int64_t i = 0; i < count; ++i) out[i] = wrapped_add(a[i], one);
  } else {
    for (int64_t i = 0; i < count; ++i) out[i] = wrapped_add(a[i], b[i]);
  }
}

void multiply(const int32_t* a, const int32_t* b, int b_step, int64_t count, int32_t* out) {
  if (b_step == 0) {
    const int32_t one = b[0];
    for (int64_t i = 0; i < count; ++i) out[i] = wrapped_multiply(a[i], one);
  } else {
    for (int64_t i = 0; i < count; ++i) out[i] = wrapped_multiply(a[i], b[i]);
  }
}

void round32(const int32_t* v, int shift, int64_t count, int32_t* out) {
  if (shift == 0) {
    for (int64_t i = 0; i < count; ++i) out[i] = v[i];
  } else if (shift >= 32) {
    for (int64_t i = 0; i < count; ++i) out[i] = static_cast<int32_t>((int64_t{v[i]} + (int64_t{1} << (shift - 1))) >> shift);
  } else {
    // floor((v + 2^(s-1)) / 2^s) is floor(v / 2^s) plus the bit below it: nothing can overflow.
    for (int64_t i = 0; i < count; ++i) out[i] = (v[i] >> shift) + ((v[i] >> (shift - 1)) & 1);
  }
}

void round64(const int64_t* v, int shift, int64_t count, int32_t* out) {
  const uint64_t half = shift == 0 ? 0 : uint64_t{1} << (shift - 1);
  // Numbers beyond what the operator may read wrap around.
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<int32_t>(static_cast<int64_t>(static_cast<uint64_t>(v[i]) + half) >> shift);
}

int32_t largest(const int32_t* v, int64_t count) {
  int32_t best = v[0];
  for (int64_t i = 1; i < count; ++i) best = v[i] > best ? v[i] : best;
  return best;
}

int32_t smallest(const int32_t* v, int64_t count) {
  int32_t best = v[0];
  for (int64_t i = 1; i < count; ++i) best = v[i] < best ? v[i] : best;
  return best;
}

void sums(const int32_t* v, int64_t count, int64_t* sum, int64_t* squares) {
  int64_t total = 0;
  uint64_t square = 0;  // values beyond what the operator may read wrap around
  for (int64_t i = 0; i < count; ++i) {
    total += v[i];
    square += static_cast<uint64_t>(int64_t{v[i]} * v[i]);
  }
  *sum = total;
  *squares = static_cast<int64_t>(square);
}

void norm_potential(const int32_t* r, const int32_t* sign, int64_t factor, int64_t total, int64_t count, int64_t* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = (r[i] * factor - total) * sign[i];
}

void widen_u8(const uint8_t* x, int64_t count, int16_t* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = x[i];
}
void widen_i8(const int8_t* x, int64_t count, int16_t* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = x[i];
}
void flip8(const uint8_t* x, int64_t count, uint8_t* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = x[i] ^ 0x80;
}

#if defined(__SSE2__)
inline __m128i some(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline void keep(void* p, __m128i v) { _mm_storeu_si128(static_cast<__m128i*>(p), v); }
#endif

void pairs16(const int16_t* const* rows, int64_t depth, int width, int16_t* panel) {
  for (int64_t k = 0; k < depth; k += 2) {
    const int16_t *x = rows[k], *y = rows[k + 1];
    int16_t* out = panel + k * width;
    int i = 0;
#if defined(__SSE2__)
    for (; i + 8 <= width; i += 8) {
      const __m128i a = some(x + i), b = some(y + i);
      keep(out + 2 * i, _mm_unpacklo_epi16(a, b));
      keep(out + 2 * i + 8, _mm_unpackhi_epi16(a, b));
    }
#endif
    for (; i < width; ++i) {
      out[2 * i] = x[i];
      out[2 * i + 1] = y[i];
    }
  }
}

void quads8(const uint8_t* const* rows, int64_t depth, int width, uint8_t* panel) {
  for (int64_t k = 0; k < depth; k += 4) {
    const uint8_t *a = rows[k], *b = rows[k + 1], *c = rows[k + 2], *d = rows[k + 3];
    uint8_t* out = panel + k * width;
    int i = 0;
#if defined(__SSE2__)
    for (; i + 16 <= width; i += 16) {
      const __m128i p = some(a + i), q = some(b + i), r = some(c + i), s = some(d + i);
      const __m128i low = _mm_unpacklo_epi8(p, q), high = _mm_unpackhi_epi8(p, q);
      const __m128i low2 = _mm_unpacklo_epi8(r, s), high2 = _mm_unpackhi_epi8(r, s);
      keep(out + 4 * i, _mm_unpacklo_epi16(low, low2));
      keep(out + 4 * i + 16, _mm_unpackhi_epi16(low, low2));
      keep(out + 4 * i + 32, _mm_unpacklo_epi16(high, high2));
      keep(out + 4 * i + 48, _mm_unpackhi_epi16(high, high2));
    }
#endif
    for (; i < width; ++i) {
      out[4 * i] = a[i];
      out[4 * i + 1] = b[i];
      out[4 * i + 2] = c[i];
      out[4 * i + 3] = d[i];
    }
  }
}

// A block of neighbouring results: all taps are added up before anything is stored.
template <int kCount>
inline void weigh_block(const int16_t* const* taps, const int32_t* weights, int count_of_taps, int64_t at, int stride, int32_t* out) {
  int32_t sum[kCount] = {};
  for (int t = 0; t < count_of_taps; ++t) {
    const int16_t* x = taps[t] + at * stride;
    const int32_t w = weights[t];
    for (int i = 0; i < kCount; ++i) sum[i] = wrapped_add(sum[i], wrapped_multiply(x[i * stride], w));
  }
  for (int i = 0; i < kCount; ++i) out[at + i] = sum[i];
}

void weigh(const int16_t* const* taps, const int32_t* weights, int count_of_taps, int stride, int64_t count, int32_t* out) {
  int64_t at = 0;
  if (stride == 1) {
#if defined(__AVX512BW__)
    // Two taps at a time: their inputs interleaved are multiplied and added in pairs. The halves of a register keep
    // the order of unpacking until the end.
    const __m512i low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i high = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
    for (; at < count; at += 32) {
      const int64_t left = count - at;
      const __mmask32 live = left >= 32 ? ~__mmask32{0} : static_cast<__mmask32>((uint32_t{1} << left) - 1);
      Sums first = none(), second = none();
      for (int t = 0; t < count_of_taps; t += 2) {
        const bool both = t + 1 < count_of_taps;
        const __m512i x = _mm512_maskz_loadu_epi16(live, taps[t] + at);
        const __m512i y = both ? _mm512_maskz_loadu_epi16(live, taps[t + 1] + at) : none();
        const uint32_t two = (static_cast<uint32_t>(weights[t]) & 0xffff) | (both ? static_cast<uint32_t>(weights[t + 1]) << 16 : 0);
        const __m512i w = _mm512_set1_epi32(static_cast<int32_t>(two));
        first = pairs(first, _mm512_unpacklo_epi16(x, y), w);
        second = pairs(second, _mm512_unpackhi_epi16(x, y), w);
      }
      _mm512_mask_storeu_epi32(out + at, static_cast<__mmask16>(live), _mm512_permutex2var_epi32(first, low, second));
      _mm512_mask_storeu_epi32(out + at + 16, static_cast<__mmask16>(live >> 16), _mm512_permutex2var_epi32(first, high, second));
    }
    return;
#else
    for (; at + 16 <= count; at += 16) weigh_block<16>(taps, weights, count_of_taps, at, 1, out);
#endif
  }
  for (; at < count; ++at) weigh_block<1>(taps, weights, count_of_taps, at, stride, out);
}

inline void finish_line(const FinishLines& job, int64_t r, int32_t* v, int64_t count) {
  const int32_t factor = job.factor[r], constant = job.constant[r];
  if (job.shift >= 0) {
    const int32_t before = job.before[r], bias = job.bias[r];
    for (int64_t i = 0; i < count; ++i) v[i] = wrapped_add(wrapped_multiply(v[i], before), bias);
    round32(v, job.shift, count, v);
  }
  if (job.other != nullptr) {
    const int32_t* x = job.other + r * job.other_pitch;
    const int32_t weight = job.weight[r];
    for (int64_t i = 0; i < count; ++i) {
      v[i] = wrapped_add(wrapped_add(wrapped_multiply(v[i], factor), constant), wrapped_multiply(x[i], weight));
    }
  } else {
    for (int64_t i = 0; i < count; ++i) v[i] = wrapped_add(wrapped_multiply(v[i], factor), constant);
  }
}

void finish(const FinishLines& job, int32_t* v, int64_t pitch, int64_t rows, int64_t count) {
  for (int64_t r = 0; r < rows; ++r) finish_line(job, r, v + r * pitch, count);
}

void forward(int32_t* to, const int32_t* from, int64_t count, int64_t rows, int64_t pitch) {
  for (int64_t r = 0; r < rows; ++r, to += pitch, from += pitch) {
    int64_t i = 0;
#if defined(__AVX512BW__)
    for (; i < count; i += 16) {
      const __mmask16 live = live_lanes(count - i);
      _mm512_mask_storeu_epi32(to + i, live, _mm512_maskz_loadu_epi32(live, from + i));
    }
#endif
    for (; i < count; ++i) to[i] = from[i];
  }
}

void gather_parts(const int32_t* const* parts, const int* shifts, int part_count, int64_t count, int64_t* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = parts[0][i] * (int64_t{1} << shifts[0]);
  for (int p = 1; p < part_count; ++p) {
    const int32_t* part = parts[p];
    const int64_t factor = int64_t{1} << shifts[p];
    for (int64_t i = 0; i < count; ++i) out[i] += part[i] * factor;
  }
}

void gather_add(const int32_t* x, int stride, int64_t count, int32_t* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = wrapped_add(out[i], x[i * stride]);
}

}  // namespace

extern const Kernels SNNC_TABLE = {
    SNNC_NAME,
#if defined(__AMX_INT8__)
    begin_bytes,
    product_bytes,
    end_bytes,
#else
    nullptr,
    nullptr,
    nullptr,
#endif
    split16,
    largest16,
    product16,
#if defined(SNNC_QUADS)
    product8_unsigned_rows,
    product8_signed_rows,
#else
    nullptr,
    nullptr,
#endif
    fire8,
    fire16,
    fire32,
    quotient32,
    quotient64,
    add,
    multiply,
    round32,
    round64,
    largest,
    smallest,
    sums,
    norm_potential,
    widen_u8,
    widen_i8,
    flip8,
    pairs16,
    quads8,
    weigh,
    finish,
    forward,
    gather_parts,
    gather_add,
};

}  // namespace snnc
