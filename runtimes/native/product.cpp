#include "product.h"

#include <algorithm>
#include <cstdlib>
#include <new>

namespace snnc {
namespace {

constexpr size_t kLine = 64;

int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

template <class T>
void pack_pairs(const T* data, int64_t depth, int64_t columns, int64_t k_stride, int64_t n_stride, int width,
                int16_t* out) {
  int64_t k = 0;
  if constexpr (sizeof(T) == 2) {
    if (k_stride == 1) {  // both numbers of a pair lie side by side
      for (int64_t n = 0; n < columns; ++n) {
        const T* line = data + n * n_stride;
        for (k = 0; k + 2 <= depth; k += 2) std::memcpy(out + k * width + 2 * n, line + k, 4);
      }
    }
  }
  if (k == 0 && n_stride == 1) {
    for (; k + 2 <= depth; k += 2) {
      const T *x = data + k * k_stride, *y = x + k_stride;
      int16_t* line = out + k * width;
      for (int64_t n = 0; n < columns; ++n) {
        line[2 * n] = static_cast<int16_t>(x[n]);
        line[2 * n + 1] = static_cast<int16_t>(y[n]);
      }
    }
  }
  for (; k < depth; ++k) {
    int16_t* line = out + k / 2 * 2 * width + k % 2;
    for (int64_t n = 0; n < columns; ++n) line[2 * n] = static_cast<int16_t>(data[k * k_stride + n * n_stride]);
  }
}

template <class T>
void pack_quads(const T* data, int64_t depth, int64_t columns, int64_t k_stride, int64_t n_stride, int width,
                uint8_t* out) {
  int64_t k = 0;
  if constexpr (sizeof(T) == 1) {
    if (k_stride == 1) {
      for (int64_t n = 0; n < columns; ++n) {
        const T* line = data + n * n_stride;
        for (k = 0; k + 4 <= depth; k += 4) std::memcpy(out + k * width + 4 * n, line + k, 4);
      }
    } else if (n_stride == 1) {
      for (; k + 4 <= depth; k += 4) {
        const T *a = data + k * k_stride, *b = a + k_stride, *c = b + k_stride, *d = c + k_stride;
        uint8_t* line = out + k * width;
        for (int64_t n = 0; n < columns; ++n) {
          line[4 * n] = static_cast<uint8_t>(a[n]);
          line[4 * n + 1] = static_cast<uint8_t>(b[n]);
          line[4 * n + 2] = static_cast<uint8_t>(c[n]);
          line[4 * n + 3] = static_cast<uint8_t>(d[n]);
        }
      }
    }
  }
  for (; k < depth; ++k) {
    uint8_t* line = out + k / 4 * 4 * width + k % 4;
    for (int64_t n = 0; n < columns; ++n) line[4 * n] = static_cast<uint8_t>(data[k * k_stride + n * n_stride]);
  }
}

// Sums of products wrap around, and so does what is taken from them.
void subtract(int32_t value, int32_t* sum) { *sum = static_cast<int32_t>(static_cast<uint32_t>(*sum) - static_cast<uint32_t>(value)); }

template <class T>
bool in16(const T* values, int64_t count) {
  return std::all_of(values, values + count, [](T v) { return v >= -32768 && v <= 32767; });
}

}  // namespace

Scratch::~Scratch() { std::free(data_); }

void* Scratch::get(size_t bytes) {
  if (bytes > room_ || data_ == nullptr) {
    std::free(data_);
    room_ = (bytes + bytes / 2 + kLine) / kLine * kLine;
    data_ = std::aligned_alloc(kLine, room_);
    if (data_ == nullptr) {
      room_ = 0;
      throw std::bad_alloc();
    }
  }
  return data_;
}

void AlignedBytes::resize(size_t bytes) {
  store.assign(bytes + kLine, 0);
  begin = store.data() + (kLine - reinterpret_cast<uintptr_t>(store.data()) % kLine) % kLine;
}

int Packed::width(int64_t panel) const {
  return static_cast<int>(std::min<int64_t>(kPanel, round_up(columns - panel * kPanel, kGranule)));
}

const void* Packed::at(int64_t panel, int plane) const {
  return panels.begin + plane * plane_bytes + panel * kPanel * padded * (form == Form::k16 ? 2 : 1);
}

bool fits16(Type type) { return type == Type::kU8 || type == Type::kI8 || type == Type::kI16 || type == Type::kBool; }

namespace {

// Fills panels of bytes. Numbers of 16 bits become two planes whose sum they are, of which the lower one holds as
// much as it can. Lines are the rows of the matrix, or its columns where those are contiguous.
void pack_bytes(const void* data, Type type, int64_t k_stride, int64_t n_stride, Packed* out) {
  thread_local Scratch lines_scratch, marks;
  const Kernels& loops = kernels();
  const int64_t depth = out->depth, columns = out->columns, width = static_cast<int64_t>(width_of(type));
  const bool turned = n_stride != 1 && k_stride == 1;
  const int64_t lines = turned ? columns : depth, length = turned ? depth : columns, stride = turned ? n_stride : k_stride;
  const int64_t pitch = round_up(length, kPanel), plane = (lines + 1) * pitch;
  uint8_t* copies = lines_scratch.as<uint8_t>(static_cast<size_t>(2 * plane));
  unsigned char* live = marks.as<unsigned char>(static_cast<size_t>(pitch / kPanel));
  std::memset(live, 0, static_cast<size_t>(pitch / kPanel));
  for (int64_t line = 0; line < lines; ++line) {
    const char* from = static_cast<const char*>(data) + line * stride * width;
    uint8_t *low = copies + line * pitch, *high = low + plane;
    if (width == 1) {
      if (length > 0) std::memcpy(low, from, static_cast<size_t>(length));
    } else {
      loops.split16(reinterpret_cast<const int16_t*>(from), length, reinterpret_cast<int8_t*>(low),
                    reinterpret_cast<int8_t*>(high), live);
      std::memset(high + length, 0, static_cast<size_t>(pitch - length));
    }
    std::memset(low + length, 0, static_cast<size_t>(pitch - length));
  }
  std::memset(copies + lines * pitch, 0, static_cast<size_t>(pitch));  // a line of zeros
  std::memset(copies + plane + lines * pitch, 0, static_cast<size_t>(pitch));
  out->planes = std::any_of(live, live + pitch / kPanel, [](unsigned char mark) { return mark != 0; }) ? 2 : 1;
  out->panels.resize(static_cast<size_t>(out->plane_bytes * out->planes));
  std::vector<const uint8_t*> rows(static_cast<size_t>(out->padded));
  for (int p = 0; p < out->planes; ++p) {
    const uint8_t* source = copies + p * plane;
    for (int64_t panel = 0; panel < out->count(); ++panel) {
      uint8_t* to = static_cast<uint8_t*>(const_cast<void*>(out->at(panel, p)));
      const int wide = out->width(panel);
      if (!turned) {
        for (int64_t k = 0; k < out->padded; ++k) rows[k] = source + std::min(k, lines) * pitch + panel * kPanel;
        loops.quads8(rows.data(), out->padded, wide, to);
        continue;
      }
      const int64_t here = std::min<int64_t>(kPanel, columns - panel * kPanel);
      for (int64_t n = 0; n < here; ++n) {
        const uint8_t* line = source + (panel * kPanel + n) * pitch;
        for (int64_t k = 0; k < depth; k += 4) std::memcpy(to + k * wide + 4 * n, line + k, 4);
      }
    }
  }
}

bool is_byte(Type type) { return type == Type::kU8 || type == Type::kI8 || type == Type::kBool; }

// 255 is no sum of two signed bytes.
bool two_bytes(const Tensor& tensor) {
  return is_byte(tensor.type) ||
         (tensor.type == Type::kI16 && kernels().largest16(tensor.as<int16_t>(), tensor.size()) <= 254);
}

constexpr int64_t kMostMoved = 65536;  // a depth for which kMoved times a sum of weights has 32 bits

// Whether 16-bit rows are taken as bytes and what is left: that pays if few quadruples have any left. A quadruple that
// does takes about twice as long as in a block of rows, and 16-bit products twice as long as those of bytes.
bool few_rests(const Tensor& rows, int* moved) {
  int least = 0, most = 0;
  const int64_t count = rows.size(), large = kernels().large_quads(rows.as<int16_t>(), count, &least, &most);
  if (moved != nullptr) *moved = kMoved;
  if (moved != nullptr && large > 0 && most - least <= 255 && rows.dims.back() <= kMostMoved) {
    *moved = -least;  // nothing is left
    return true;
  }
  return 10 * large <= count && least >= -255 && most <= 255;
}

}  // namespace

Form form_of(const Tensor& rows, const Tensor& matrix, int* moved) {
  if (kernels().product_bytes != nullptr && two_bytes(matrix) && two_bytes(rows)) return Form::kBytes;
  if (kernels().product8_unsigned_rows == nullptr || matrix.type != Type::kI8) return Form::k16;
  if (rows.type == Type::kU8 || rows.type == Type::kBool) return Form::k8Unsigned;
  if (rows.type == Type::kI8) return Form::k8Signed;
  return rows.type == Type::kI16 && few_rests(rows, moved) ? Form::k8Rests : Form::k16;
}

void pack(const void* data, Type type, int64_t depth, int64_t columns, int64_t k_stride, int64_t n_stride, Form form,
          Packed* out) {
  const bool wide = form == Form::k16;
  out->form = form;
  out->depth = depth;
  out->padded = round_up(std::max<int64_t>(depth, 1), wide ? 2 : form == Form::kBytes ? 64 : 4);
  out->columns = columns;
  out->is_unsigned = type == Type::kU8 || type == Type::kBool;
  out->planes = 1;
  out->plane_bytes = round_up(columns, kGranule) * out->padded * (wide ? 2 : 1);
  out->start.clear();
  if (form == Form::kBytes && (n_stride == 1 || k_stride == 1)) {
    pack_bytes(data, type, k_stride, n_stride, out);
    return;
  }
  require(form != Form::kBytes || type != Type::kI16, "a matrix without contiguous rows or columns");
  out->panels.resize(static_cast<size_t>(out->plane_bytes));
  const int64_t width = static_cast<int64_t>(width_of(type));
  for (int64_t panel = 0; panel < out->count(); ++panel) {
    const char* from = static_cast<const char*>(data) + panel * kPanel * n_stride * width;
    const int64_t here = std::min<int64_t>(kPanel, columns - panel * kPanel);
    void* to = const_cast<void*>(out->at(panel));
    auto each = [&](auto kind) {
      using T = decltype(kind);
      const T* values = reinterpret_cast<const T*>(from);
      if (wide) {
        pack_pairs(values, depth, here, k_stride, n_stride, out->width(panel), static_cast<int16_t*>(to));
      } else {
        pack_quads(values, depth, here, k_stride, n_stride, out->width(panel), static_cast<uint8_t*>(to));
      }
    };
    switch (type) {
      case Type::kU8:
      case Type::kBool:
        each(uint8_t{});
        break;
      case Type::kI8:
        each(int8_t{});
        break;
      case Type::kI16:
        each(int16_t{});
        break;
      case Type::kI32:
        each(int32_t{});
        break;
      case Type::kI64:
        each(int64_t{});
        break;
      default:
        refuse("a product of this element type");
    }
  }
  if (form == Form::k8Signed || form == Form::k8Rests) {
    out->start.assign(static_cast<size_t>(round_up(columns, kGranule)), 0);
    const int8_t* values = static_cast<const int8_t*>(data);
    for (int64_t k = 0; k < depth; ++k) {
      for (int64_t n = 0; n < columns; ++n) subtract(kMoved * values[k * k_stride + n * n_stride], &out->start[n]);
    }
  }
}

bool small_values(const Tensor& tensor) {
  if (fits16(tensor.type)) return true;
  if (tensor.type == Type::kI32) return in16(tensor.as<int32_t>(), tensor.size());
  return tensor.type == Type::kI64 && in16(tensor.as<int64_t>(), tensor.size());
}

void to16(const void* from, Type type, int64_t count, int16_t* to) {
  switch (type) {
    case Type::kU8:
    case Type::kBool:
      kernels().widen_u8(static_cast<const uint8_t*>(from), count, to);
      break;
    case Type::kI8:
      kernels().widen_i8(static_cast<const int8_t*>(from), count, to);
      break;
    case Type::kI16:
      if (count > 0) std::memcpy(to, from, static_cast<size_t>(count) * 2);
      break;
    case Type::kI32:
      for (int64_t i = 0; i < count; ++i) to[i] = static_cast<int16_t>(static_cast<const int32_t*>(from)[i]);
      break;
    case Type::kI64:
      for (int64_t i = 0; i < count; ++i) to[i] = static_cast<int16_t>(static_cast<const int64_t*>(from)[i]);
      break;
    default:
      refuse("a product of this element type");
  }
}

namespace {

// Rows as the form wants them: copied, widened, moved or split into planes; or left where they are.
struct Rows {
  const void* plane[2];
  int planes = 1;
  int64_t pitch;
  unsigned char* live = nullptr;
  std::vector<Rests> more, less;  // k8Rests: of each row
};

// Moved bytes, and lists of what is left.
Rows take_bytes(const int16_t* from, int64_t stride, int rows, const Packed& right, int moved) {
  thread_local Scratch copies, steps_scratch, quads_scratch, counts_scratch;
  const int64_t pitch = right.padded, room = pitch / 4 + 8;
  uint8_t* copy = copies.as<uint8_t>(static_cast<size_t>(rows * pitch));
  int32_t* steps = steps_scratch.as<int32_t>(static_cast<size_t>(2 * rows * room));
  uint32_t* quads = quads_scratch.as<uint32_t>(static_cast<size_t>(2 * rows * room));
  int* counts = counts_scratch.as<int>(static_cast<size_t>(2 * rows));
  Rows result{{copy, nullptr}, 1, pitch, nullptr, {}, {}};
  for (int r = 0; r < rows; ++r) {
    const int64_t up = 2 * r * room, down = up + room;
    result.more.push_back({steps + up, quads + up, counts + 2 * r});
    result.less.push_back({steps + down, quads + down, counts + 2 * r + 1});
    kernels().part16(from + r * stride, right.depth, moved, copy + r * pitch, result.more.back(), result.less.back());
    std::memset(copy + r * pitch + right.depth, 0, static_cast<size_t>(pitch - right.depth));
  }
  return result;
}

Rows prepare(const char* from, Type type, int64_t stride, int rows, const Packed& right, int moved) {
  thread_local Scratch copies, marks;
  const int64_t width = static_cast<int64_t>(width_of(type)), depth = right.depth, pitch = right.padded;
  const bool exact = depth == pitch;
  Rows result{{from, nullptr}, 1, stride, nullptr, {}, {}};
  if (right.form == Form::k8Rests) return take_bytes(reinterpret_cast<const int16_t*>(from), stride, rows, right, moved);
  if (right.form == Form::kBytes) {
    // What stands behind a row meets zeros of the panel.
    if (width == 1 && ((exact && rows % 16 == 0) || stride >= pitch + (exact ? 1 : 0))) return result;
    const size_t plane = static_cast<size_t>(kTileRows * pitch);
    char* copy = copies.as<char>(plane * 2);
    result = {{copy, copy + plane}, width == 1 ? 1 : 2, pitch, nullptr, {}, {}};
    if (width == 1) {
      for (int r = 0; r < rows; ++r) {
        if (depth > 0) std::memcpy(copy + r * pitch, from + r * stride, static_cast<size_t>(depth));
        std::memset(copy + r * pitch + depth, 0, static_cast<size_t>(pitch - depth));
      }
      return result;
    }
    const int64_t blocks = pitch / 64;
    result.live = marks.as<unsigned char>(static_cast<size_t>(kTileRows / 16 * blocks));
    std::memset(result.live, 0, static_cast<size_t>(kTileRows / 16 * blocks));
    for (int r = 0; r < rows; ++r) {
      int8_t* low = reinterpret_cast<int8_t*>(copy + r * pitch);
      int8_t* high = low + plane;
      kernels().split16(reinterpret_cast<const int16_t*>(from) + r * stride, depth, low, high, result.live + r / 16 * blocks);
      std::memset(low + depth, 0, static_cast<size_t>(pitch - depth));
      std::memset(high + depth, 0, static_cast<size_t>(pitch - depth));
    }
    for (int r = rows; r % 16 != 0; ++r) std::memset(copy + plane + r * pitch, 0, static_cast<size_t>(pitch));
    return result;
  }
  if (exact && ((right.form == Form::k16 && type == Type::kI16) || right.form == Form::k8Unsigned)) return result;
  const int64_t unit = right.form == Form::k16 ? 2 : 1;
  char* copy = copies.as<char>(static_cast<size_t>(rows * pitch * unit));
  for (int r = 0; r < rows; ++r) {
    const char* source = from + r * stride * width;
    char* to = copy + r * pitch * unit;
    if (right.form == Form::k16) {
      to16(source, type, depth, reinterpret_cast<int16_t*>(to));
    } else if (right.form == Form::k8Signed) {
      kernels().flip8(reinterpret_cast<const uint8_t*>(source), depth, reinterpret_cast<uint8_t*>(to));
    } else {
      if (depth > 0) std::memcpy(to, source, static_cast<size_t>(depth));
    }
    std::memset(to + depth * unit, 0, static_cast<size_t>((pitch - depth) * unit));
  }
  result.plane[0] = copy;
  result.pitch = pitch;
  return result;
}

}  // namespace

void multiply(const void* left, Type type, int64_t stride, int64_t begin, int64_t end, const Packed& right,
              int64_t first, int64_t last, const Sink& sink, int moved) {
  thread_local Scratch sums_scratch;
  thread_local std::vector<int32_t> starts;
  const Kernels& loops = kernels();
  int32_t* sums = sums_scratch.as<int32_t>(kTileRows * kPanel);
  const MatrixGuard guard(right.form == Form::kBytes);
  const int32_t* all = right.start.empty() ? nullptr : right.start.data();
  if (all != nullptr && moved != kMoved) {
    starts.assign(right.start.begin(), right.start.end());
    for (int32_t& start : starts) start = static_cast<int32_t>(static_cast<uint32_t>(start / kMoved) * static_cast<uint32_t>(moved));
    all = starts.data();
  }
  const bool unsigned_rows = type == Type::kU8 || type == Type::kBool;
  for (int64_t row = begin; row < end; row += kTileRows) {
    const int rows = static_cast<int>(std::min<int64_t>(kTileRows, end - row));
    const Rows ours = prepare(static_cast<const char*>(left) + row * stride * static_cast<int64_t>(width_of(type)), type,
                              stride, rows, right, moved);
    for (int64_t panel = first; panel < last; ++panel) {
      const int32_t* start = all == nullptr ? nullptr : all + panel * kPanel;
      const int wide = right.width(panel);
      int64_t ldc = kPanel;
      int32_t* straight = sink.place(row, panel * kPanel, &ldc);
      int32_t* to = straight == nullptr ? sums : straight;
      if (right.form == Form::kBytes) {
        BytesProduct job{{ours.plane[0], ours.plane[1]}, ours.live, ours.planes, unsigned_rows, ours.pitch,
                         {right.at(panel), right.planes == 2 ? right.at(panel, 1) : nullptr}, right.planes,
                         right.is_unsigned, right.padded, rows, wide};
        loops.product_bytes(job, to, ldc);
      } else if (right.form == Form::k16) {
        loops.product16(static_cast<const int16_t*>(ours.plane[0]), ours.pitch,
                        static_cast<const int16_t*>(right.at(panel)), right.padded, rows, wide, start, to, ldc);
      } else {
        loops.product8_unsigned_rows(static_cast<const uint8_t*>(ours.plane[0]), ours.pitch,
                                     static_cast<const int8_t*>(right.at(panel)), right.padded, rows, wide, start,
                                     to, ldc);
        for (size_t r = 0; r < ours.more.size(); ++r) {
          if (*ours.more[r].count == 0 && *ours.less[r].count == 0) continue;
          loops.product8_rests(ours.more[r], ours.less[r], static_cast<const int8_t*>(right.at(panel)), wide,
                               to + static_cast<int64_t>(r) * ldc);
        }
      }
      const int64_t column = panel * kPanel;
      if (straight != nullptr) continue;
      sink.tile(row, rows, column, static_cast<int>(std::min<int64_t>(kPanel, right.columns - column)), sums, kPanel);
    }
  }
}

template <class T, class A, class B>
void multiply_plain(const A* a, const B* b, int64_t rows, int64_t depth, int64_t columns, T* c) {
  using U = std::make_unsigned_t<T>;
  for (int64_t r = 0; r < rows; ++r) {
    T* line = c + r * columns;
    std::fill(line, line + columns, T{0});
    for (int64_t k = 0; k < depth; ++k) {
      const U x = static_cast<U>(static_cast<T>(a[r * depth + k]));
      const B* from = b + k * columns;
      for (int64_t n = 0; n < columns; ++n) line[n] = static_cast<T>(static_cast<U>(line[n]) + x * static_cast<U>(static_cast<T>(from[n])));
    }
  }
}

template void multiply_plain(const int32_t*, const int32_t*, int64_t, int64_t, int64_t, int32_t*);
template void multiply_plain(const int64_t*, const int64_t*, int64_t, int64_t, int64_t, int64_t*);

}  // namespace snnc
