// NativeAttention: scores, their neuron relative to the row's maximum, the weighted sum of values, and the neuron
// whose gain is the sum of the weights. A block of rows stays in cache from one end to the other.

#include <algorithm>
#include <memory>

#include "neuron.h"
#include "product.h"

namespace snnc {
namespace {

constexpr int kMostFraction = 20;

Type small_code_type(const Node& node, const char* name) {
  const Type type = node.code_type(name);
  require(fits16(type), "codes of more than 16 bits");
  return type;
}

int64_t up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

int64_t sum_of(const void* codes, Type type, int64_t count) {
  uint32_t total = 0;  // modulo 2^32, as the body's
  if (type == Type::kU8) {
    for (int64_t i = 0; i < count; ++i) total += static_cast<const uint8_t*>(codes)[i];
  } else if (type == Type::kI8) {
    for (int64_t i = 0; i < count; ++i) total += static_cast<uint32_t>(static_cast<const int8_t*>(codes)[i]);
  } else {
    for (int64_t i = 0; i < count; ++i) total += static_cast<uint32_t>(static_cast<const int16_t*>(codes)[i]);
  }
  return static_cast<int32_t>(total);
}

class Attention : public Kernel {
 public:
  explicit Attention(const Node& node)
      : transposed_(node.integer("transposed") != 0), score_type_(small_code_type(node, "score_type")),
        code_type_(small_code_type(node, "code_type")), fraction_(node.number("fraction_bits", 0, kMostFraction)) {
    Tensor scores, values;
    require(node.constant(3, &scores) && node.constant(4, &values), "the thresholds are not constant");
    scores_ = std::make_unique<FireTable>(scores, node.codes("score_codes", score_type_), node.integer("score_depth"));
    values_ = std::make_unique<FireTable>(values, node.codes("codes", code_type_), node.integer("depth"));
    score_row_ = node.number("score_row", 0, scores_->rows() - 1);
  }

  // q (..., M, d), k (..., d, L) or transposed (..., L, d), v (..., L, e), two tables, rows (over the result).
  void run(const Call& call) const override {
    const Tensor q = call.input(0), k = call.input(1), v = call.input(2), rows = call.input(5);
    require(fits16(q.type) && fits16(k.type) && fits16(v.type), "codes of this element type");
    require(q.rank() >= 2 && k.rank() >= 2 && v.rank() >= 2, "attention needs matrices");
    Tensor turned = k;
    if (transposed_) std::swap(turned.dims[turned.dims.size() - 1], turned.dims[turned.dims.size() - 2]);
    const Geometry first = geometry(q, turned);
    Tensor scores;
    scores.type = score_type_;
    scores.dims = first.out;
    const Geometry second = geometry(scores, v);
    char* out = static_cast<char*>(call.output(second.out, code_type_));
    if (product(second.out) == 0) return;
    require(first.columns > 0, "the largest of no elements");
    Shape result = second.out;
    result[result.size() - 2] = 1;  // rows of thresholds do not depend on the query
    const Broadcast plan = plan_rows(result, rows, values_->rows());
    FireTable::Positions score_place, value_place;
    scores_->place(&score_row_, 1, &score_place);
    values_->place(rows.as<int32_t>(), rows.size(), &value_place);

    const int64_t stack = static_cast<int64_t>(second.left.size());
    const int64_t blocks = (first.rows + kTileRows - 1) / kTileRows;
    const int64_t parts = stack >= 8 ? 1 : std::min<int64_t>(2, blocks);
    const double cost = static_cast<double>(first.rows * first.columns) * 4.0 / static_cast<double>(parts);
    const Form form_scores = form_of(q, k), form_values =
        score_type_ == Type::kI16 ? Form::k16 : form_of(Tensor{score_type_, {0}, nullptr}, v);
    call.parallel(stack * parts, cost, [&](int64_t begin, int64_t end) {
      thread_local Packed keys, values;
      thread_local Scratch sums_scratch, code_scratch, value_scratch;
      const int64_t score_width = static_cast<int64_t>(width_of(score_type_)), width = static_cast<int64_t>(width_of(code_type_));
      const int64_t length = first.columns, extent = second.columns, depth = first.depth;
      const int64_t pitch = up(length, kGranule), code_pitch = up(length, kPanel) + kPanel, value_pitch = up(extent, kGranule);
      int32_t* sums = sums_scratch.as<int32_t>(static_cast<size_t>(kTileRows * pitch));
      char* codes = code_scratch.as<char>(static_cast<size_t>(kTileRows * code_pitch * score_width));
      int32_t* weighted = value_scratch.as<int32_t>(static_cast<size_t>(kTileRows * value_pitch));
      const FireLine score_line = scores_->line(score_place, 0, true);
      for (int64_t job = begin; job < end; ++job) {
        const int64_t which = job / parts, part = job % parts, inner = second.left[which];
        const char* query = at(q, first.left[inner], first.rows * depth);
        pack(at(k, first.right[inner], depth * length), k.type, depth, length, transposed_ ? 1 : length,
             transposed_ ? depth : 1, form_scores, &keys);
        pack(at(v, second.right[which], length * extent), v.type, length, extent, extent, 1, form_values, &values);
        const int64_t flat = which * extent, line = flat / plan.length, inside = flat % plan.length;
        const FireLine value_line = values_->line(value_place, plan.b_start[line] + inside * plan.b_step, plan.b_step == 0);
        for (int64_t row = blocks * part / parts * kTileRows; row < std::min(first.rows, blocks * (part + 1) / parts * kTileRows);
             row += kTileRows) {
          const int64_t count = std::min<int64_t>(kTileRows, first.rows - row);
          multiply(query + row * depth * static_cast<int64_t>(width_of(q.type)), q.type, depth, 0, count, keys, 0,
                   keys.count(), Block(sums, pitch));
          for (int64_t r = 0; r < count; ++r) {
            int32_t* score = sums + r * pitch;
            const int32_t minus = static_cast<int32_t>(-static_cast<uint32_t>(kernels().largest(score, length)));
            kernels().add(score, &minus, 0, length, score);
          }
          fire_lines(score_line, sums, pitch, count, length, static_cast<int>(score_width), codes, code_pitch);
          multiply(codes, score_type_, code_pitch, 0, count, values, 0, values.count(), Block(weighted, value_pitch));
          for (int64_t r = 0; r < count; ++r) {
            const int64_t gain = std::max<int64_t>(1, sum_of(codes + r * code_pitch * score_width, score_type_, length));
            int32_t* value = weighted + r * value_pitch;
            kernels().quotient32(value, static_cast<double>(int64_t{1} << fraction_), static_cast<double>(gain), extent, value);
          }
          fire_lines(value_line, weighted, value_pitch, count, extent, static_cast<int>(width),
                     out + (which * first.rows + row) * extent * width, extent);
        }
      }
    });
  }

 private:
  static const char* at(const Tensor& tensor, int64_t matrix, int64_t size) {
    return static_cast<const char*>(tensor.data) + matrix * size * static_cast<int64_t>(width_of(tensor.type));
  }

  bool transposed_;
  Type score_type_, code_type_;
  int fraction_;
  int32_t score_row_;
  std::unique_ptr<FireTable> scores_, values_;
};

}  // namespace

void define_attention(std::vector<Definition>* list) {
  constexpr Type any = Type::kUndefined, i = Type::kI32;
  list->push_back({"NativeAttention", {any, any, any, i, i, i}, any, make<Attention>});
}

}  // namespace snnc
