#include "neuron.h"

#include <algorithm>
#include <cmath>

namespace snnc {
namespace {

constexpr int64_t kFewestCells = 64, kMostCells = 8192;  // of a near table
constexpr int kPlaceBits = 23;                           // places of a near table: single precision holds them
constexpr int kMostInside = 15;
constexpr int64_t kMostCompared = 16;                    // limits of a wide cell that are compared in turn
constexpr int64_t kMostBorders = 4096;  // cells of an exact table
constexpr double kMostDoubt = 1.0 / 512;  // of a cell: the more, the more often a block is done twice
constexpr int64_t kMostClasses = 24;    // rows of different shapes in one near table
constexpr int64_t kFewLimits = 31;
constexpr int32_t kNever = 2147483647;

// Limits that no potential reaches, and that all do.
bool never(int32_t limit) { return limit == kNever; }
bool always(int32_t limit) { return limit == INT32_MIN; }

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
  require(rows_ * stride_ < kNever && (width > 0 || rows_ < kMostCells), "the table of thresholds is too large");
  limits_.assign(static_cast<size_t>(rows_ * stride_), kNever);
  for (int64_t row = 0; row < rows_; ++row) {
    std::copy_n(thresholds.as<int32_t>() + row * width, count_, limits_.begin() + row * stride_);
  }
  // A search may count padding that v = 2^31 - 1 reaches; it then gets the last code.
  codes_.assign(static_cast<size_t>(stride_ + 1), static_cast<int32_t>(codes.back()));
  std::transform(codes.begin(), codes.end(), codes_.begin(), [](int64_t code) { return static_cast<int32_t>(code); });
  if (fit_exact()) {
    mode_ = kExact;
    return;
  }
  merge_limits();
  if (fit_near()) {
    mode_ = kNear;
  } else {
    mode_ = count_ >= 1 && count_ <= kFewLimits ? kFew : kSearch;
  }
}

bool FireTable::fit_exact() {
  if (count_ == 0 || count_ > kMostBorders) return false;
  std::vector<int64_t> border(static_cast<size_t>(count_));
  for (int64_t j = 0; j < count_; ++j) {
    if (codes_[j + 1] <= codes_[j]) return false;
    border[j] = int64_t{codes_[j]} + codes_[j + 1] - codes_[0] - codes_[1] + 1;
  }
  if (border.back() >= kMostBorders) return false;
  std::vector<double> scale(static_cast<size_t>(rows_)), offset(static_cast<size_t>(rows_));
  std::vector<double> residual(static_cast<size_t>(count_));
  std::vector<float> scale32(static_cast<size_t>(rows_)), offset32(static_cast<size_t>(rows_));
  bool narrow = true;
  double doubt = 0;
  for (int64_t row = 0; row < rows_; ++row) {
    const int32_t* limit = limits_.data() + row * stride_;
    const bool low = always(limit[0]), high = never(limit[count_ - 1]);
    if (low || high) {
      int64_t reached = 0;
      while (reached < count_ && always(limit[reached])) ++reached;
      if (reached < count_ && !never(limit[reached])) return false;
      scale[row] = 0.0;
      offset[row] = reached == 0 ? 0.0 : static_cast<double>(border[reached - 1]);
      offset32[row] = static_cast<float>(offset[row] + 0.5);  // in the middle of the same cell
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
    scale32[row] = static_cast<float>(slope);
    offset32[row] = static_cast<float>(least);
    // v, slope, product, offset and sum are rounded by 2^-24 each. Up to a cell beyond the table |v * slope| is at most
    // its cells + |offset|; further out the error is less than a cell as well, so that the end is the same. The last
    // factor covers what is rounded in double precision, and here.
    doubt = std::max(doubt, (4.0 * static_cast<double>(border.back() + 2) + 6.0 * std::abs(least)) * (1.0 + 1e-3) / 16777216.0);
    for (int64_t j = 0; j < count_ && narrow; ++j) {
      const float edge = static_cast<float>(border[j]);
      narrow = static_cast<float>(limit[j]) * scale32[row] + offset32[row] >= edge &&
               static_cast<float>(limit[j] - 1) * scale32[row] + offset32[row] < edge;
    }
  }
  // Numbers of half the size: where the same proof holds for them, or else wherever a result is further from a border
  // than their roundings can move it. The others are computed again.
  if (narrow || doubt <= kMostDoubt) {
    scale32_ = scale32;
    offset32_ = offset32;
    doubt_ = narrow ? 0.0f : static_cast<float>(doubt);
  }
  scale_ = scale;
  offset_ = offset;
  first_cell_.assign(static_cast<size_t>(rows_), 0);
  last_cell_ = static_cast<int>(border.back());
  if (codes_[0] < -32768 || codes_[count_] > 32767) return false;
  int64_t room = 64;  // loops read 64, 256, 512 or 1024 of them into registers
  while (room <= last_cell_ + 1 && room < 1024) room *= room == 64 ? 4 : 2;
  cells_.assign(static_cast<size_t>(std::max<int64_t>(last_cell_ + 2, room)), 0);
  for (int64_t cell = 0, k = 0; cell <= last_cell_; ++cell) {
    while (k < count_ && border[k] <= cell) ++k;
    cells_[cell] = static_cast<int16_t>(codes_[k]);
  }
  bool odd = last_cell_ % 2 == 1 && last_cell_ >= kFoldedCells && last_cell_ < 2 * kFoldedCells;
  for (int cell = 0; cell <= last_cell_ && odd; ++cell) odd = cells_[cell] == -cells_[last_cell_ - cell];
  if (odd) {
    folded_.assign(kFoldedCells, 0);
    std::copy_n(cells_.begin() + (last_cell_ + 1) / 2, (last_cell_ + 1) / 2, folded_.begin());
  }
  const std::vector<int16_t>& table = odd ? folded_ : cells_;
  const int least = odd ? 0 : -128;
  auto is_byte = [least](int16_t code) { return code >= least && code <= 255; };
  if (permutes_bytes() && (odd || last_cell_ < 512) && std::all_of(table.begin(), table.end(), is_byte)) {
    bytes_.assign(512, 0);
    std::transform(table.begin(), table.begin() + std::min<int64_t>(512, static_cast<int64_t>(table.size())), bytes_.begin(),
                   [](int16_t code) { return static_cast<uint8_t>(code); });
  }
  return true;
}

// Limits that coincide in every row: the codes between them are never emitted.
void FireTable::merge_limits() {
  std::vector<int64_t> kept;
  for (int64_t j = 0; j < count_; ++j) {
    bool apart = j + 1 == count_;
    for (int64_t row = 0; row < rows_ && !apart; ++row) apart = limits_[row * stride_ + j] != limits_[row * stride_ + j + 1];
    if (apart) kept.push_back(j);
  }
  const int64_t count = static_cast<int64_t>(kept.size());
  if (count == count_) return;
  steps_ = 0;
  while ((int64_t{1} << steps_) <= count) ++steps_;
  const int64_t stride = std::max((int64_t{1} << steps_) - 1, count + 1);
  std::vector<int32_t> limits(static_cast<size_t>(rows_ * stride), kNever);
  std::vector<int32_t> codes(static_cast<size_t>(stride + 1), codes_[count_]);
  codes[0] = codes_[0];
  for (int64_t j = 0; j < count; ++j) {
    codes[j + 1] = codes_[kept[j] + 1];
    for (int64_t row = 0; row < rows_; ++row) limits[row * stride + j] = limits_[row * stride_ + kept[j]];
  }
  limits_ = std::move(limits);
  codes_ = std::move(codes);
  count_ = count;
  stride_ = stride;
}

// The least power of two of cells of which few hold two limits of a row.
int64_t FireTable::near_cells() const {
  int64_t cells = kFewestCells;
  while (cells < 4 * count_ && cells < kMostCells) cells *= 2;
  for (int64_t row = 0; row < rows_; ++row) {
    const int32_t* limit = limits_.data() + row * stride_;
    if (always(limit[0]) || never(limit[count_ - 1])) continue;
    const double span = std::max(1.0, static_cast<double>(limit[count_ - 1]) - limit[0]);
    for (; cells < kMostCells; cells *= 2) {
      int64_t crowded = 0;
      for (int64_t j = 1; j < count_; ++j) {
        crowded += static_cast<double>(cells) * (static_cast<double>(limit[j]) - limit[j - 1]) < span;
      }
      if (4 * crowded <= (cells < kNearCells ? 0 : count_)) break;
    }
    break;
  }
  return cells;
}

bool FireTable::fit_near() {
  if (count_ < 1 || count_ >= static_cast<int64_t>(kUnknown)) return false;
  if (std::any_of(codes_.begin(), codes_.end(), [](int32_t code) { return code < -32768 || code > 32767; })) return false;
  const int64_t cells = near_cells();
  int bits = 0;
  while ((int64_t{1} << bits) < cells) ++bits;
  inside_ = std::min(kMostInside, kPlaceBits - bits);
  const int64_t size = int64_t{1} << inside_, places = cells * size;
  const float top = static_cast<float>(places - 1);
  // Rows that an affine map brings together share cells. Limit j is surely not reached at places below begin[j], and
  // surely reached from end[j] on.
  struct Class {
    std::vector<int32_t> begin, end;
    double step;  // places of a step of v
  };
  std::vector<Class> classes;
  scale32_.assign(static_cast<size_t>(rows_), 0.0f);
  offset32_.assign(static_cast<size_t>(rows_), 0.0f);
  std::vector<int32_t> class_of(static_cast<size_t>(rows_), -1);
  std::vector<int32_t> begin(static_cast<size_t>(count_)), end(static_cast<size_t>(count_));
  int64_t loose = 0;
  for (int64_t row = 0; row < rows_; ++row) {
    const int32_t* limit = limits_.data() + row * stride_;
    int64_t first = 0, last = count_;
    while (first < count_ && always(limit[first])) ++first;
    while (last > first && never(limit[last - 1])) --last;
    float scale = 0.0f, offset = 0.0f;
    if (last > first) {
      const double span = static_cast<double>(limit[last - 1]) - limit[first] + 1.0;
      if (span < 1.0) return false;
      scale = static_cast<float>(static_cast<double>(places - 2 * size) / span);
      offset = static_cast<float>(static_cast<double>(size) - static_cast<double>(limit[first]) * scale);
    }
    auto place_of = [&](int32_t v) {
      float x = static_cast<float>(v) * scale + offset;  // monotone, as the scale is not negative
      x = x > 0.0f ? x : 0.0f;
      return static_cast<int32_t>(x < top ? x : top);
    };
    for (int64_t j = 0; j < count_; ++j) {
      if (j < first || j >= last) {
        begin[j] = end[j] = j < first ? 0 : static_cast<int32_t>(places);
        continue;
      }
      if (j > first && limit[j] < limit[j - 1]) return false;
      begin[j] = place_of(limit[j]);
      end[j] = place_of(limit[j] - 1) + 1;
    }
    for (size_t which = 0; which < classes.size() && class_of[row] < 0; ++which) {
      Class& known = classes[which];
      const double step = std::max(known.step, static_cast<double>(scale));
      const double most = std::max(static_cast<double>(size) / 16.0, 4.0 * step);
      bool joins = true;
      for (int64_t j = 0; j < count_ && joins; ++j) {
        joins = std::max(known.end[j], end[j]) - std::min(known.begin[j], begin[j]) <= most;
      }
      if (!joins) continue;
      for (int64_t j = 0; j < count_; ++j) {
        known.begin[j] = std::min(known.begin[j], begin[j]);
        known.end[j] = std::max(known.end[j], end[j]);
      }
      known.step = step;
      class_of[row] = static_cast<int32_t>(which);
    }
    if (class_of[row] < 0 && static_cast<int64_t>(classes.size()) < kMostClasses) {
      class_of[row] = static_cast<int32_t>(classes.size());
      classes.push_back({begin, end, scale});
    }
    if (class_of[row] < 0) {
      if (++loose > rows_ / 8) return false;
      continue;  // searched: every potential falls into one wide cell
    }
    scale32_[row] = scale;
    offset32_[row] = offset;
  }
  window_ = 0;
  for (const Class& each : classes) {
    for (int64_t j = 0; j < count_; ++j) window_ = std::max(window_, each.end[j] - each.begin[j]);
  }
  const int64_t used = static_cast<int64_t>(classes.size()) * cells;
  marks_.assign(static_cast<size_t>(used + 1), kWide | kUnknown);
  for (size_t which = 0; which < classes.size(); ++which) {
    const Class& here = classes[which];
    int64_t low = 0, high = 0;  // limits that are reached before the cell, and that begin before its end
    for (int64_t cell = 0; cell < cells; ++cell) {
      const int64_t from = cell * size;
      while (low < count_ && std::max(here.begin[low], here.end[low]) <= from) ++low;
      while (high < count_ && here.begin[high] < from + size) ++high;
      uint32_t mark = static_cast<uint32_t>(low);
      if (high <= low) {
        mark |= 0xffff0000u;  // behind all places
      } else if (high == low + 1) {
        mark |= static_cast<uint32_t>(std::max<int64_t>(here.begin[low] - from, 0)) << 16;
      } else {
        mark = kWide | (high - low > kMostCompared ? kUnknown : mark);
      }
      marks_[static_cast<int64_t>(which) * cells + cell] = mark;
    }
  }
  first_cell_.resize(static_cast<size_t>(rows_));
  for (int64_t row = 0; row < rows_; ++row) {
    first_cell_[row] = static_cast<int32_t>(class_of[row] < 0 ? used : class_of[row] * cells);
  }
  last_cell_ = static_cast<int>(places - 1);
  if (classes.size() == 1 && cells <= kNearCells && loose == 0 && window_ < 32768) {
    marks16_.assign(2 * kNearCells, 0);
    for (int64_t cell = 0; cell < cells; ++cell) {
      marks16_[cell] = static_cast<int16_t>(marks_[cell] >> 16);
      marks16_[kNearCells + cell] = static_cast<int16_t>(marks_[cell] & 0xffff);
    }
  }
  if (count_ < kNearCodes) {
    codes16_.assign(kNearCodes, 0);
    for (int64_t k = 0; k <= count_; ++k) codes16_[k] = static_cast<int16_t>(codes_[k]);
  }
  return true;
}

void FireTable::place(const int32_t* rows, int64_t count, Positions* positions) const {
  if (mode_ == kFew) {
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
    if (!scale32_.empty()) {
      pick(scale32_, &positions->scale32);
      pick(offset32_, &positions->offset32);
    }
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
  line.doubt = doubt_;
  line.cells = cells_.data();
  line.folded = folded_.empty() ? nullptr : folded_.data();
  line.bytes = bytes_.empty() ? nullptr : bytes_.data();
  line.marks = marks_.data();
  line.marks16 = marks16_.empty() ? nullptr : marks16_.data();
  line.codes16 = codes16_.empty() ? nullptr : codes16_.data();
  line.inside = inside_;
  line.window = window_;
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

void fire_lines(const FireLine& line, const int32_t* v, int64_t pitch, int64_t rows, int64_t count, int width, void* out,
                int64_t out_pitch) {
  const Kernels& loops = kernels();
  if (width == 1) {
    loops.fire8(line, v, pitch, rows, count, static_cast<int8_t*>(out), out_pitch);
  } else if (width == 2) {
    loops.fire16(line, v, pitch, rows, count, static_cast<int16_t*>(out), out_pitch);
  } else {
    loops.fire32(line, v, pitch, rows, count, static_cast<int32_t*>(out), out_pitch);
  }
}

void fire_line(const FireLine& line, const int32_t* v, int64_t count, int width, void* out) {
  fire_lines(line, v, count, 1, count, width, out, count);
}

}  // namespace snnc
