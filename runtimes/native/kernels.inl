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

#include "products.inl"

#include "neurons.inl"

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
  // Values beyond what the operator may read wrap around.
  const uint64_t times = static_cast<uint64_t>(factor), sum = static_cast<uint64_t>(total);
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t v = static_cast<uint64_t>(int64_t{r[i]}) * times - sum;
    out[i] = static_cast<int64_t>(v * static_cast<uint64_t>(int64_t{sign[i]}));
  }
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
#if defined(__AVX512BW__)
    for (; i + 64 <= width; i += 64) {
      const __m512i p = load(a + i), q = load(b + i), r = load(c + i), s = load(d + i);
      const __m512i low = _mm512_unpacklo_epi8(p, q), high = _mm512_unpackhi_epi8(p, q);
      const __m512i low2 = _mm512_unpacklo_epi8(r, s), high2 = _mm512_unpackhi_epi8(r, s);
      // Part j of x0 .. x3 holds columns 16 * j + 4 * its number: a transpose of parts of 128 bits.
      const __m512i x0 = _mm512_unpacklo_epi16(low, low2), x1 = _mm512_unpackhi_epi16(low, low2);
      const __m512i x2 = _mm512_unpacklo_epi16(high, high2), x3 = _mm512_unpackhi_epi16(high, high2);
      const __m512i y0 = _mm512_shuffle_i32x4(x0, x1, 0x44), y1 = _mm512_shuffle_i32x4(x0, x1, 0xee);
      const __m512i y2 = _mm512_shuffle_i32x4(x2, x3, 0x44), y3 = _mm512_shuffle_i32x4(x2, x3, 0xee);
      _mm512_storeu_si512(out + 4 * i, _mm512_shuffle_i32x4(y0, y2, 0x88));
      _mm512_storeu_si512(out + 4 * i + 64, _mm512_shuffle_i32x4(y0, y2, 0xdd));
      _mm512_storeu_si512(out + 4 * i + 128, _mm512_shuffle_i32x4(y1, y3, 0x88));
      _mm512_storeu_si512(out + 4 * i + 192, _mm512_shuffle_i32x4(y1, y3, 0xdd));
    }
#endif
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
template <int kCount, class T>
inline void weigh_block(const T* const* taps, const int32_t* weights, int count_of_taps, int64_t at, int stride, int32_t* out) {
  int32_t sum[kCount] = {};
  for (int t = 0; t < count_of_taps; ++t) {
    const T* x = taps[t] + at * stride;
    const int32_t w = weights[t];
    for (int i = 0; i < kCount; ++i) sum[i] = wrapped_add(sum[i], wrapped_multiply(x[i * stride], w));
  }
  for (int i = 0; i < kCount; ++i) out[at + i] = sum[i];
}

#if defined(__AVX512BW__)
inline __mmask64 first_bytes(int64_t count) { return count >= 64 ? ~__mmask64{0} : count <= 0 ? 0 : (__mmask64{1} << count) - 1; }
inline __m512i words_of(__mmask32 live, const int16_t* x) { return _mm512_maskz_loadu_epi16(live, x); }
inline __m512i words_of(__mmask32 live, const uint8_t* x) { return _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(live, x)); }
inline __m512i words_of(__mmask32 live, const int8_t* x) { return _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(live, x)); }
#endif

template <class T>
inline void weigh_all(const T* const* taps, const int32_t* weights, int count_of_taps, int stride, int64_t count, int32_t* out) {
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
        const __m512i x = words_of(live, taps[t] + at);
        const __m512i y = both ? words_of(live, taps[t + 1] + at) : none();
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

void weigh(const int16_t* const* taps, const int32_t* weights, int count_of_taps, int stride, int64_t count, int32_t* out) {
  weigh_all(taps, weights, count_of_taps, stride, count, out);
}
void weigh_u8(const uint8_t* const* taps, const int32_t* weights, int count_of_taps, int stride, int64_t count, int32_t* out) {
  weigh_all(taps, weights, count_of_taps, stride, count, out);
}
void weigh_i8(const int8_t* const* taps, const int32_t* weights, int count_of_taps, int stride, int64_t count, int32_t* out) {
  weigh_all(taps, weights, count_of_taps, stride, count, out);
}

void margins8(const uint8_t* from, int64_t width, int64_t lines, int64_t left, int64_t pitch, uint8_t fill, uint8_t flip, uint8_t* to) {
  for (int64_t line = 0; line < lines; ++line, from += width, to += pitch) {
#if defined(__AVX512BW__)
    for (int64_t at = 0; at < pitch; at += 64) {
      // Which of these 64 places are inside of the line, and which in the plane.
      const __mmask64 inside = first_bytes(left + width - at) & ~first_bytes(left - at), all = first_bytes(pitch - at);
      const __m512i x = _mm512_xor_si512(_mm512_maskz_loadu_epi8(inside, from + (at - left)), _mm512_set1_epi8(static_cast<char>(flip)));
      _mm512_mask_storeu_epi8(to + at, all, _mm512_mask_blend_epi8(inside, _mm512_set1_epi8(static_cast<char>(fill)), x));
    }
#else
    for (int64_t x = 0; x < left; ++x) to[x] = fill;
    for (int64_t x = 0; x < width; ++x) to[left + x] = from[x] ^ flip;
    for (int64_t x = left + width; x < pitch; ++x) to[x] = fill;
#endif
  }
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

void finish_positions(const FinishLines& job, const int32_t* v, int64_t pitch, int64_t rows, int64_t count, int32_t* out,
                      int64_t out_pitch) {
  for (int64_t r = 0; r < rows; ++r, v += pitch, out += out_pitch) {
    const int32_t* from = v;
    if (job.shift >= 0) {
      for (int64_t i = 0; i < count; ++i) out[i] = wrapped_add(wrapped_multiply(from[i], job.before[i]), job.bias[i]);
      round32(out, job.shift, count, out);
      from = out;
    }
    if (job.other == nullptr) {
      for (int64_t i = 0; i < count; ++i) out[i] = wrapped_add(wrapped_multiply(from[i], job.factor[i]), job.constant[i]);
      continue;
    }
    const int32_t* x = job.other + r * job.other_pitch;
    for (int64_t i = 0; i < count; ++i) {
      const int32_t here = wrapped_add(wrapped_multiply(from[i], job.factor[i]), job.constant[i]);
      out[i] = wrapped_add(here, wrapped_multiply(x[i], job.weight[i]));
    }
  }
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
    large_quads,
    part16,
    product8_rests,
#else
    nullptr,
    nullptr,
    nullptr,
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
    margins8,
    weigh,
    weigh_u8,
    weigh_i8,
    finish,
    finish_positions,
    forward,
    gather_parts,
    gather_add,
};

}  // namespace snnc
