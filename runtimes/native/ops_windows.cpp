// NativeWindows: scores of queries and keys, their neuron, and the sum of values that its codes weight, for windows
// and heads that are read and written where they lie. A block of scores stays in cache from one end to the other.

#include <algorithm>
#include <cstring>
#include <memory>

#include "neuron.h"
#include "op.h"
#include "product.h"

namespace snnc {
namespace {

constexpr int64_t kMost = int64_t{1} << 31;  // of a place, and of a result's elements
constexpr int64_t kQuad = 4;                 // depths are multiples of it, so that no form of product pads them

int64_t up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

// Where the elements of a stack of matrices lie in a sample: (s, r, c) at base[s] + row[r] + col[c].
struct Places {
  std::vector<int64_t> base, row, col;
  int64_t last = 0;

  Places(const Node& node, const char* bases, const char* rows, const char* cols)
      : base(node.integers(bases)), row(node.integers(rows)), col(node.integers(cols)) {
    for (const std::vector<int64_t>* part : {&base, &row, &col}) {
      require(!part->empty(), "a stack of matrices without elements");
      for (int64_t place : *part) require(place >= 0 && place < kMost, "a place is out of range");
      last += *std::max_element(part->begin(), part->end());
    }
  }
  int64_t rows() const { return static_cast<int64_t>(row.size()); }
  int64_t cols() const { return static_cast<int64_t>(col.size()); }
  void check(const Tensor& x) const {
    require(fits16(x.type), "codes of this element type");
    require(x.rank() >= 1 && (x.dims[0] == 0 || last < product(x.dims, 1)), "a place is outside of a sample");
  }
  // Copies matrix s into `lines` lines of `pitch` elements, zeros behind its own.
  template <class T>
  void gather(const T* sample, size_t s, int64_t lines, int64_t pitch, T* to) const {
    const int64_t* places = col.data();  // stores of bytes may not change them
    const size_t count = col.size();
    const T* from = sample + base[s];
    for (int64_t r : row) {
      const T* line = from + r;
      size_t c = 0;
      for (; c + 4 <= count; c += 4) {  // all loads before the stores, which they do not depend on
        const T v0 = line[places[c]], v1 = line[places[c + 1]], v2 = line[places[c + 2]], v3 = line[places[c + 3]];
        to[c] = v0, to[c + 1] = v1, to[c + 2] = v2, to[c + 3] = v3;
      }
      for (; c < count; ++c) to[c] = line[places[c]];
      std::fill(to + count, to + pitch, T{0});
      to += pitch;
    }
    std::fill_n(to, (lines - rows()) * pitch, T{0});
  }
};

// Matrices are small: setting up matrix registers would not pay.
Form small_form(Type rows, Type matrix) {
  if (kernels().product8_unsigned_rows == nullptr || matrix != Type::kI8 || rows == Type::kI16) return Form::k16;
  return rows == Type::kI8 ? Form::k8Signed : Form::k8Unsigned;
}

// Codes of one operand as `multiply` wants its matrix.
struct Operand {
  Scratch memory, wide, panels;
  std::vector<const uint8_t*> bytes;
  std::vector<const int16_t*> words;
  Packed packed;

  void take(const Places& places, const Tensor& x, int64_t sample, size_t s, Form form) {
    const int64_t depth = up(places.rows(), kQuad), pitch = up(places.cols(), kGranule), size = depth * pitch;
    packed.form = form;
    packed.depth = packed.padded = depth;
    packed.columns = places.cols();
    packed.plane_bytes = size * (form == Form::k16 ? 2 : 1);
    packed.panels.begin = panels.as<unsigned char>(static_cast<size_t>(packed.plane_bytes));
    packed.start.clear();
    if (width_of(x.type) == 2) {
      int16_t* codes = wide.as<int16_t>(static_cast<size_t>(size));
      places.gather(x.as<int16_t>() + sample * product(x.dims, 1), s, depth, pitch, codes);
      interleave(codes, pitch, &words);
      return;
    }
    uint8_t* codes = memory.as<uint8_t>(static_cast<size_t>(size));
    places.gather(x.as<uint8_t>() + sample * product(x.dims, 1), s, depth, pitch, codes);
    if (form == Form::k16) {
      int16_t* wider = wide.as<int16_t>(static_cast<size_t>(size));
      to16(codes, x.type, size, wider);
      interleave(wider, pitch, &words);
      return;
    }
    interleave(codes, pitch, &bytes);
    if (form == Form::k8Signed) move(reinterpret_cast<const int8_t*>(codes), pitch);
  }

 private:
  static void join(const uint8_t* const* rows, int64_t depth, int width, void* panel) {
    kernels().quads8(rows, depth, width, static_cast<uint8_t*>(panel));
  }
  static void join(const int16_t* const* rows, int64_t depth, int width, void* panel) {
    kernels().pairs16(rows, depth, width, static_cast<int16_t*>(panel));
  }
  template <class T>
  void interleave(const T* from, int64_t pitch, std::vector<const T*>* rows) {
    rows->resize(static_cast<size_t>(packed.depth));
    for (int64_t panel = 0; panel < packed.count(); ++panel) {
      for (int64_t k = 0; k < packed.depth; ++k) (*rows)[k] = from + k * pitch + panel * kPanel;
      join(rows->data(), packed.depth, packed.width(panel), const_cast<void*>(packed.at(panel)));
    }
  }
  // Rows moved by 128 add 128 times each column's sum, modulo 2^32.
  void move(const int8_t* from, int64_t pitch) {
    packed.start.assign(static_cast<size_t>(pitch), 0);
    int32_t* start = packed.start.data();
    for (int64_t k = 0; k < packed.depth; ++k) {
      for (int64_t n = 0; n < pitch; ++n) {
        const uint32_t moved = 128u * static_cast<uint32_t>(from[k * pitch + n]);
        start[n] = static_cast<int32_t>(static_cast<uint32_t>(start[n]) - moved);
      }
    }
  }
};

class Windows : public Kernel {
 public:
  explicit Windows(const Node& node)
      : q_(node, "q_base", "q_row", "q_col"), k_(node, "k_base", "k_row", "k_col"), v_(node, "v_base", "v_row", "v_col"),
        y_(node, "y_base", "y_row", "y_col"), shape_(node.integers("shape")), type_(node.code_type("code_type")) {
    const size_t stack = q_.base.size();
    require(k_.base.size() == stack && v_.base.size() == stack && y_.base.size() == stack, "the stacks differ in number");
    require(q_.cols() == k_.rows() && k_.cols() == v_.rows() && q_.rows() == y_.rows() && v_.cols() == y_.cols(),
            "the matrices do not fit each other");
    require(fits16(type_), "codes of more than 16 bits");
    int64_t size = 1;
    for (int64_t extent : shape_) {
      require(extent >= 1 && extent < kMost && size * extent < kMost, "an extent is out of range");
      size *= extent;
    }
    require(static_cast<int64_t>(stack) <= size && y_.rows() <= size && y_.cols() <= size &&
                static_cast<int64_t>(stack) * y_.rows() <= size &&
                static_cast<int64_t>(stack) * y_.rows() * y_.cols() == size && y_.last < size,
            "the results do not fill their shape");
    std::vector<bool> written(static_cast<size_t>(size));
    for (int64_t base : y_.base) {
      for (int64_t row : y_.row) {
        for (int64_t col : y_.col) {
          require(!written[static_cast<size_t>(base + row + col)], "two results have one place");
          written[static_cast<size_t>(base + row + col)] = true;
        }
      }
    }
    Tensor thresholds;
    require(node.constant(3, &thresholds), "the thresholds are not constant");
    table_ = std::make_unique<FireTable>(thresholds, node.codes("codes", type_), node.integer("depth"));
    const int64_t row = node.integer("score_row");
    require(row >= 0 && row < table_->rows(), "a row number is out of range");
    const int32_t place = static_cast<int32_t>(row);
    table_->place(&place, 1, &position_);
  }

  // q, k, v: codes, samples first. Result: int32, the samples' shape is the attribute.
  void run(const Call& call) const override {
    const Tensor q = call.input(0), k = call.input(1), v = call.input(2);
    q_.check(q), k_.check(k), v_.check(v);
    const int64_t samples = q.dims[0], stack = static_cast<int64_t>(q_.base.size()), size = product(shape_);
    require(k.dims[0] == samples && v.dims[0] == samples, "the numbers of samples differ");
    Shape dims{samples};
    dims.insert(dims.end(), shape_.begin(), shape_.end());
    int32_t* out = call.output_as<int32_t>(dims);
    if (samples == 0) return;
    const Form form_scores = small_form(q.type, k.type), form_values = small_form(type_, v.type);
    const double cost = static_cast<double>(q_.rows() * k_.cols() * (q_.cols() + v_.cols())) / 60.0 +
                        static_cast<double>(q_.rows() * q_.cols() + 2 * k_.cols() * (q_.cols() + v_.cols()));
    call.parallel(samples * stack, cost, [&](int64_t begin, int64_t end) {
      thread_local Scratch queries;
      thread_local Operand keys, values;
      for (int64_t job = begin; job < end; ++job) {
        const int64_t sample = job / stack;
        const size_t s = static_cast<size_t>(job % stack);
        const int64_t pitch = up(q_.cols(), kQuad), start = sample * product(q.dims, 1);
        const size_t width = width_of(q.type), bytes = static_cast<size_t>(q_.rows() * pitch) * width;
        char* query = queries.as<char>(bytes);
        if (width == 1) {
          q_.gather(q.as<uint8_t>() + start, s, q_.rows(), pitch, reinterpret_cast<uint8_t*>(query));
        } else {
          q_.gather(q.as<int16_t>() + start, s, q_.rows(), pitch, reinterpret_cast<int16_t*>(query));
        }
        keys.take(k_, k, sample, s, form_scores);
        values.take(v_, v, sample, s, form_values);
        mix(query, q.type, pitch, keys.packed, values.packed, out + sample * size + y_.base[s]);
      }
    });
  }

 private:
  void mix(const char* query, Type type, int64_t query_pitch, const Packed& keys, const Packed& values, int32_t* out) const {
    thread_local Scratch score_scratch, code_scratch, sum_scratch;
    const int64_t length = keys.columns, pitch = up(length, kGranule), code_pitch = values.depth;
    const int64_t width = static_cast<int64_t>(width_of(type_)), sum_pitch = up(values.columns, kGranule);
    int32_t* scores = score_scratch.as<int32_t>(static_cast<size_t>(kTileRows * pitch));
    int32_t* sums = sum_scratch.as<int32_t>(static_cast<size_t>(kTileRows * sum_pitch));
    const size_t room = static_cast<size_t>(kTileRows * code_pitch * width);
    char* codes = code_scratch.as<char>(room);
    if (code_pitch != length) std::memset(codes, 0, room);
    const FireLine line = table_->line(position_, 0, true);
    for (int64_t row = 0; row < q_.rows(); row += kTileRows) {
      const int64_t count = std::min<int64_t>(kTileRows, q_.rows() - row);
      multiply(query + row * query_pitch * static_cast<int64_t>(width_of(type)), type, query_pitch, 0, count, keys, 0, keys.count(),
               Block(scores, pitch));
      fire_lines(line, scores, pitch, count, length, static_cast<int>(width), codes, code_pitch);
      multiply(codes, type_, code_pitch, 0, count, values, 0, values.count(), Block(sums, sum_pitch));
      const int64_t* places = y_.row.data() + row;
      for (int64_t c = 0; c < values.columns; ++c) {
        int32_t* to = out + y_.col[c];
        const int32_t* from = sums + c;
        int64_t r = 0;
        for (; r + 4 <= count; r += 4, from += 4 * sum_pitch) {
          const int32_t v0 = from[0], v1 = from[sum_pitch], v2 = from[2 * sum_pitch], v3 = from[3 * sum_pitch];
          to[places[r]] = v0, to[places[r + 1]] = v1, to[places[r + 2]] = v2, to[places[r + 3]] = v3;
        }
        for (; r < count; ++r, from += sum_pitch) to[places[r]] = *from;
      }
    }
  }

  Places q_, k_, v_, y_;
  Shape shape_;
  Type type_;
  std::unique_ptr<FireTable> table_;
  FireTable::Positions position_;
};

}  // namespace

void define_windows(std::vector<Definition>* list) {
  constexpr Type any = Type::kUndefined, i = Type::kI32;
  list->push_back({"NativeWindows", {any, any, any, i}, i, make<Windows>});
}

}  // namespace snnc
