#include "neuron.h"

#include <algorithm>
#include <cmath>

namespace snnc {
namespace {

constexpr int64_t kMostCells = 4096;
constexpr int64_t kFewRows = 8;   // up to here a near table may take its time to be made
constexpr int kMostSteps = 31;    // limits in one cell of a near table: 5 bits beside the 10 of a count
constexpr int kMostClasses = 24;  // rows of different shapes in one near table
constexpr int64_t kFewLimits = 31;
constexpr int32_t kNever = 2147483647;

// Limits that the compiler put out of every potential's reach.
bool never(int32_t limit) { return limit >= kNever - 1; }
bool always(int32_t limit) { return limit <= -(kNever - 1); }

}  // namespace

FireTable::FireTable(const Tensor& thresholds, const std::vector<int64_t>& codes, int64_t depth) {
  require(thresholds.type == Type::kI32 && thresholds.rank() == 2, "thresholds are int32 of shape (R, K)");
  require(depth >= 0 && depth <= 30, "the depth is out of range");
  rows_ = thresholds.dims[0];
  const int64_t width = thresholds.dims[1];
  require(width == (int64_t{1} << depth) - 1, "K is not 2^depth - 1");
  require(!codes.empty() && static_cast<int64_t>(codes.size()) - 1 <= width, "more codes than K + 1, or none");
  count_ = static_cast<int64_t>(codes.size()) - 1;
  steps_ = 0;
  while ((int64_t{1} << steps_) <= count_) ++steps_;
  // Room for the search's reach and for the comparisons behind a near table.
  stride_ = std::max((int64_t{1} << steps_) - 1, count_ + 1);
  require(rows_ * stride_ < kNever, "the table of thresholds is too large");
  limits_.assign(static_cast<size_t>(rows_ * stride_), kNever);
  for (int64_t row = 0; row < rows_; ++row) {
    std::copy_n(thresholds.as<int32_t>() + row * width, count_, limits_.begin() + row * stride_);
  }
  // A search may count padding that v = 2^31 - 1 reaches; it then gets the last code.
  codes_.assign(static_cast<size_t>(stride_ + 1), static_cast<int32_t>(codes.back()));
  std::transform(codes.begin(), codes.end(), codes_.begin(), [](int64_t code) { return static_cast<int32_t>(code); });
  const int search_steps = steps_;
  if (fit_exact()) {
    mode_ = kExact;
  } else if (count_ >= 1 && count_ <= kFewLimits) {
    mode_ = kFew;
  } else if (fit_near()) {
    mode_ = kNear;
  } else {
    mode_ = kSearch;
    steps_ = search_steps;
  }
}

bool FireTable::fit_exact() {
  if (count_ == 0 || count_ > kMostCells) return false;
  std::vector<int64_t> border(static_cast<size_t>(count_));
  for (int64_t j = 0; j < count_; ++j) {
    if (codes_[j + 1] <= codes_[j]) return false;
    border[j] = int64_t{codes_[j]} + codes_[j + 1] - codes_[0] - codes_[1] + 1;
  }
  if (border.back() >= kMostCells) return false;
  std::vector<double> scale(static_cast<size_t>(rows_)), offset(static_cast<size_t>(rows_));
  std::vector<double> residual(static_cast<size_t>(count_));
  for (int64_t row = 0; row < rows_; ++row) {
    const int32_t* limit = limits_.data() + row * stride_;
    const bool low = always(limit[0]), high = never(limit[count_ - 1]);
    if (low || high) {
      int64_t reached = 0;
      while (reached < count_ && always(limit[reached])) ++reached;
      if (reached < count_ && !never(limit[reached])) return false;
      scale[row] = 0.0;
      offset[row] = reached == 0 ? 0.0 : static_cast<double>(border[reached - 1]);
      continue;
    }
    const double span = static_cast<double>(limit[count_ - 1]) - limit[0];
    if (span < 0) return false;
    double from, to;
    if (span == 0) {
      // All limits in one place: a map steep enough to pass all borders in one step.
      from = to = 2.0 * static_cast<double>(border.back() - border[0] + 1);
    } else {
      const double steps = static_cast<double>(border.back() - border[0]);
      from = steps / (span + 1.0);
      to = span > 1.0 ? (steps + 1.0) / (span - 1.0) : 4.0 * (steps + 1.0);
    }
    // A map fits if its residuals at the limits spread less than one step of v. The spread is convex in the slope.
    bool fits = false;
    double least = 0, slope = 0;
    for (int round = 0; round < 60 && !fits; ++round) {
      slope = 0.5 * (from + to);
      double top = border[0] - slope * limit[0], bottom = top;
      int64_t at_top = 0, at_bottom = 0;
      for (int64_t j = 0; j < count_; ++j) residual[j] = static_cast<double>(border[j]) - slope * limit[j];
      for (int64_t j = 1; j < count_; ++j) {
        if (residual[j] > top) top = residual[j], at_top = j;
        if (residual[j] < bottom) bottom = residual[j], at_bottom = j;
      }
      fits = top - bottom < slope * (1.0 - 1e-7);
      least = 0.5 * (top + bottom + slope);
      if (limit[at_top] > limit[at_bottom]) {
        from = slope;
      } else {
        to = slope;
      }
    }
    if (!fits) return false;
    for (int64_t j = 0; j < count_; ++j) {
      // The same operations as the inner loops', and monotone: what holds at the limits holds everywhere.
      if (!(static_cast<double>(limit[j]) * slope + least >= static_cast<double>(border[j]))) return false;
      if (!(static_cast<double>(int64_t{limit[j]} - 1) * slope + least < static_cast<double>(border[j]))) return false;
    }
    scale[row] = slope;
    offset[row] = least;
  }
  scale_ = scale;
  offset_ = offset;
  first_cell_.assign(static_cast<size_t>(rows_), 0);
  last_cell_ = static_cast<int>(border.back());
  if (codes_[0] < -32768 || codes_[count_] > 32767) return false;
  cells_.assign(static_cast<size_t>(std::max(last_cell_ + 2, 64)), 0);  // loops read two registers of them
  for (int64_t cell = 0, k = 0; cell <= last_cell_; ++cell) {
    while (k < count_ && border[k] <= cell) ++k;
    cells_[cell] = static_cast<int16_t>(codes_[k]);
  }
  return true;
}

bool FireTable::fit_near() {
  if (count_ < 4 || count_ > 1023) return false;
  int64_t cells = 64;
  while (cells < 2 * count_) cells *= 2;
  // A table of few rows may be finer, until a cell holds one limit.
  while (!near_table(cells)) {
    if (cells == kMostCells) return false;
    cells *= 2;
  }
  while (rows_ <= kFewRows && steps_ > 1 && cells < kMostCells) near_table(cells *= 2);
  return true;
}

bool FireTable::near_table(int64_t cells) {
  const float top = static_cast<float>(cells - 1);
  struct Class {
    std::vector<int32_t> least, most;
    int64_t probe[3];
  };
  std::vector<Class> classes;
  scale32_.assign(static_cast<size_t>(rows_), 0.0f);
  offset32_.assign(static_cast<size_t>(rows_), 0.0f);
  first_cell_.assign(static_cast<size_t>(rows_), 0);
  std::vector<int32_t> least(static_cast<size_t>(cells)), most(static_cast<size_t>(cells));
  for (int64_t row = 0; row < rows_; ++row) {
    const int32_t* limit = limits_.data() + row * stride_;
    int64_t begin = 0, end = count_;
    while (begin < count_ && always(limit[begin])) ++begin;
    while (end > begin && never(limit[end - 1])) --end;
    float scale = 0.0f, offset = 0.0f;
    if (end > begin) {
      const double span = static_cast<double>(limit[end - 1]) - limit[begin] + 1.0;
      if (span < 1.0) return false;
      scale = static_cast<float>(static_cast<double>(cells - 2) / span);
      offset = static_cast<float>(1.0 - static_cast<double>(limit[begin]) * scale);
    }
    auto cell_of = [&](int32_t v) {
      float x = static_cast<float>(v) * scale + offset;
      x = x > 0.0f ? x : 0.0f;
      return static_cast<int64_t>(x < top ? x : top);
    };
    // A cell's potentials have reached all limits of lower cells, and none of higher ones.
    int64_t spread = 0, cell = 0;
    auto fill = [&](int64_t upto, int64_t low, int64_t high) {
      for (; cell < upto; ++cell) {
        least[cell] = static_cast<int32_t>(low);
        most[cell] = static_cast<int32_t>(high);
        spread += high - low;
      }
    };
    for (int64_t j = begin; j < end;) {
      const int64_t here = cell_of(limit[j]);
      if (here < cell) return false;  // the limits do not ascend
      fill(here, j, j);
      int64_t next = j;
      while (next < end && cell_of(limit[next]) == here) ++next;
      if (next - j > kMostSteps) return false;
      fill(here + 1, j, next);
      j = next;
    }
    fill(cells, end, end);
    // Rows share a table if that makes the cells hardly wider.
    const int64_t third = (end - begin) / 4;
    auto probe = [&](int64_t at) { return end == begin ? 0 : cell_of(limit[begin + at * third]); };
    const int64_t probes[3] = {probe(1), probe(2), probe(3)};
    bool placed = false;
    for (size_t which = 0; which < classes.size() && !placed; ++which) {
      Class& known = classes[which];
      bool alike = true;
      for (int at = 0; at < 3; ++at) alike = alike && std::abs(known.probe[at] - probes[at]) <= 2;
      if (!alike) continue;
      const int64_t room = spread + cells / 2;
      int64_t sum = 0;
      int32_t widest = 0;
      for (int64_t at = 0; at < cells && sum <= room; ++at) {
        const int32_t wide = std::max(known.most[at], most[at]) - std::min(known.least[at], least[at]);
        sum += wide;
        widest = std::max(widest, wide);
      }
      if (sum > room || widest > kMostSteps) continue;
      for (int64_t at = 0; at < cells; ++at) {
        known.most[at] = std::max(known.most[at], most[at]);
        known.least[at] = std::min(known.least[at], least[at]);
      }
      first_cell_[row] = static_cast<int32_t>(static_cast<int64_t>(which) * cells);
      placed = true;
    }
    if (!placed) {
      if (classes.size() == kMostClasses) return false;
      first_cell_[row] = static_cast<int32_t>(static_cast<int64_t>(classes.size()) * cells);
      classes.push_back({least, most, {probes[0], probes[1], probes[2]}});
    }
    scale32_[row] = scale;
    offset32_[row] = offset;
  }
  steps_ = 0;
  cells_.clear();
  for (const Class& known : classes) {
    for (int64_t at = 0; at < cells; ++at) {
      steps_ = std::max(steps_, known.most[at] - known.least[at]);
      cells_.push_back(static_cast<int16_t>(known.least[at] | (known.most[at] - known.least[at]) << 10));
    }
  }
  cells_.push_back(0);  // loops read a word at the last one
  last_cell_ = static_cast<int>(cells - 1);
  return true;
}

void FireTable::place(const int32_t* rows, int64_t count, Positions* positions) const {
  if (mode_ == kFew && count > 1) {
    positions->columns.resize(static_cast<size_t>(count * count_));
    for (int64_t j = 0; j < count_; ++j) {
      for (int64_t i = 0; i < count; ++i) positions->columns[j * count + i] = limits_[rows[i] * stride_ + j];
    }
  }
  auto pick = [rows, count](const auto& from, auto* to) {
    to->resize(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) (*to)[i] = from[rows[i]];
  };
  if (mode_ == kExact) {
    pick(scale_, &positions->scale);
    pick(offset_, &positions->offset);
    pick(first_cell_, &positions->first_cell);
    return;
  }
  if (mode_ == kNear) {
    pick(scale32_, &positions->scale32);
    pick(offset32_, &positions->offset32);
    pick(first_cell_, &positions->first_cell);
  }
  positions->first_limit.resize(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) positions->first_limit[i] = static_cast<int32_t>(rows[i] * stride_);
}

FireLine FireTable::line(const Positions& positions, int64_t at, bool shared) const {
  FireLine line{};
  line.mode = mode_;
  line.shared = shared;
  auto from = [at](const auto& values) { return values.empty() ? nullptr : values.data() + at; };
  line.scale = from(positions.scale);
  line.offset = from(positions.offset);
  line.scale32 = from(positions.scale32);
  line.offset32 = from(positions.offset32);
  line.first_cell = from(positions.first_cell);
  line.first_limit = from(positions.first_limit);
  line.columns = from(positions.columns);
  line.columns_pitch = static_cast<int64_t>(positions.first_limit.size());
  line.count = static_cast<int>(count_);
  line.cells = cells_.data();
  line.limits = limits_.data();
  line.codes = codes_.data();
  line.last_cell = last_cell_;
  line.steps = steps_;
  return line;
}

Broadcast plan_rows(const Shape& v, const Tensor& rows, int64_t row_count) {
  require(rows.type == Type::kI32, "row numbers are int32");
  Broadcast plan = broadcast(v, rows.dims);
  require(plan.out == v, "row numbers do not broadcast to the potentials");
  for (int64_t i = 0, n = rows.size(); i < n; ++i) {
    require(rows.as<int32_t>()[i] >= 0 && rows.as<int32_t>()[i] < row_count, "a row number is out of range");
  }
  return plan;
}

void fire_line(const FireLine& line, const int32_t* v, int64_t count, int width, void* out) {
  const Kernels& loops = kernels();
  if (width == 1) {
    loops.fire8(line, v, count, static_cast<int8_t*>(out));
  } else if (width == 2) {
    loops.fire16(line, v, count, static_cast<int16_t*>(out));
  } else {
    loops.fire32(line, v, count, static_cast<int32_t*>(out));
  }
}

}  // namespace snnc
