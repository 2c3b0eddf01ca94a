// Minimum spanning tree of a grid, and the filter along it. scribbleseg.ops.tree has the definition.
//
//     up      s_v = y_v + sum_{c child of v} a_c s_c
//     down    t_v = a_v t_p + (1 - a_v^2) s_v,   t = s at a root
//     n       the same with y = 1;   filtered = t / n
//
// t = K y is linear and K symmetric, so the gradient by y is the same two passes on u = grad / n, and
//     dE/da_v = sum_classes s^u_v (t^y_p - a_v s^y_v) + s^y_v (t^u_p - a_v s^u_v),
// with -(u . filtered) against ones as one more class, for n. A pixel's classes lie side by side in a row of the scratch, so
// that a step of a pass is one multiply-add of registers. Nothing depends on the number of threads.
#include "tree.hpp"

#include "spanning_tree.hpp"

#include <algorithm>
#include <memory>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(_OPENMP)
#include <omp.h>
#endif

namespace ARCH {
namespace {

int here() {
#if defined(_OPENMP)
    return omp_get_thread_num();
#else
    return 0;
#endif
}

// One step of a pass: pixel v, its parent p (v itself at a root), the affinity of their edge.
template <class T> struct Step {
    int32_t v, p;
    T a;
};

inline int64_t edge_of(int32_t v, int32_t p, int64_t width, int64_t pixels) {
    return std::min(v, p) + (std::abs(p - v) == width ? pixels : 0);
}

// False if a number of the tree does not fit the grid.
template <class T>
bool list_steps(const T* affinity, const int32_t* parent, const int32_t* order, int64_t width, int64_t pixels, Step<T>* steps) {
    for (int64_t k = 0; k < pixels; ++k) {
        const int32_t v = order[k];
        if (v < 0 || v >= pixels) return false;
        const int32_t p = parent[v];
        if (p < 0 || p >= pixels) return false;
        steps[k] = {v, p, p == v ? T(0) : affinity[edge_of(v, p, width, pixels)]};
    }
    return true;
}

template <class T, int N> struct RowOf { typedef T type __attribute__((vector_size(N * sizeof(T)))); };
template <class T, int N> using Row = typename RowOf<T, N>::type;

// The rows of the steps to come are asked for ahead: they are all over a map larger than the caches.
constexpr int64_t AHEAD = 16;
template <class R> inline void fetch(const R* row) { __builtin_prefetch(row, 1); }

template <class T, class R> void upward(const Step<T>* steps, int64_t pixels, R* s) {
    for (int64_t k = pixels - 1; k >= 0; --k) {
        fetch(s + steps[std::max<int64_t>(k - AHEAD, 0)].v);
        if (steps[k].p != steps[k].v) s[steps[k].p] += steps[k].a * s[steps[k].v];
    }
}
template <class T, class R> inline void lower(T a, const R& t_parent, R& s) { s = a * t_parent + ((1 - a) * (1 + a)) * s; }
template <class T, class R> void downward(const Step<T>* steps, int64_t pixels, R* s) {
    for (int64_t k = 0; k < pixels; ++k) {
        fetch(s + steps[std::min(k + AHEAD, pixels - 1)].v);
        if (steps[k].p != steps[k].v) lower(steps[k].a, s[steps[k].p], s[steps[k].v]);
    }
}

template <class T, int N> inline T sum_of(const Row<T, N>& x) {
    T sum = 0;
    for (int lane = 0; lane < N; ++lane) sum += x[lane];
    return sum;
}
template <class T, class R> struct Sum { static T of(const R& x) { return sum_of<T, int(sizeof(R) / sizeof(T))>(x); } };
template <class T> struct Sum<T, T> { static T of(T x) { return x; } };

// Down both passes at once; adds the gradient by each edge's affinity to `slope`, in the order of the steps.
template <class T, class R> void downward_both(const Step<T>* steps, int64_t pixels, R* s, R* u, T* slope) {
    for (int64_t k = 0; k < pixels; ++k) {
        const int32_t v = steps[k].v, p = steps[k].p;
        const T a = steps[k].a;
        const int32_t later = steps[std::min(k + AHEAD, pixels - 1)].v;
        fetch(s + later), fetch(u + later);
        if (p == v) {
            slope[k] = 0;
            continue;
        }
        slope[k] = Sum<T, R>::of(u[v] * (s[p] - a * s[v]) + s[v] * (u[p] - a * u[v]));
        lower(a, s[p], s[v]);
        lower(a, u[p], u[v]);
    }
}

// Planes of pixels become rows of N classes and back; `scale`, if any, divides.
template <class T, int N> void to_rows(const T* planes, int count, int64_t pixels, const T* scale, Row<T, N>* rows) {
    constexpr int64_t TILE = 16;
    T* flat = reinterpret_cast<T*>(rows);
    for (int64_t first = 0; first < pixels; first += TILE) {
        const int64_t size = std::min(TILE, pixels - first);
        for (int lane = 0; lane < N; ++lane)
            for (int64_t i = first; i < first + size; ++i)
                flat[i * N + lane] = lane >= count ? T(0) : scale ? planes[lane * pixels + i] / scale[i] : planes[lane * pixels + i];
    }
}
template <class T, int N> void to_planes(const Row<T, N>* rows, int count, int64_t pixels, const T* scale, T* planes) {
    constexpr int64_t TILE = 16;
    const T* flat = reinterpret_cast<const T*>(rows);
    for (int64_t first = 0; first < pixels; first += TILE) {
        const int64_t size = std::min(TILE, pixels - first);
        for (int lane = 0; lane < count; ++lane)
            for (int64_t i = first; i < first + size; ++i)
                planes[lane * pixels + i] = scale ? flat[i * N + lane] / scale[i] : flat[i * N + lane];
    }
}

// Classes go in blocks of at most 8, all of about the same size.
struct Blocks {
    int64_t classes, number, each;
    explicit Blocks(int64_t all)
        : classes(all), number((all + 7) / 8), each(number ? (all + number - 1) / number : 0) {}
    int64_t first(int64_t n) const { return n * each; }
    int count(int64_t n) const { return int(std::min(each, classes - first(n))); }
    int lanes() const { return each <= 4 ? 4 : 8; }
};

// Memory for rows, in large pages where the system has them and there is much of it: almost every step of a pass is on
// another page of a large map.
template <class T> struct Scratch {
    static constexpr size_t PAGE = size_t(1) << 21;
    struct Free {
        size_t align;
        void operator()(T* p) const { ::operator delete(p, std::align_val_t(align)); }
    };
    std::unique_ptr<T, Free> memory{nullptr, Free{128}};
    explicit Scratch(size_t bytes) {
        const size_t align = bytes < PAGE ? 128 : PAGE;
        bytes = (bytes + align - 1) / align * align;
        memory = std::unique_ptr<T, Free>(static_cast<T*>(::operator new(bytes, std::align_val_t(align))), Free{align});
#if defined(__linux__)
        if (align == PAGE) madvise(memory.get(), bytes, MADV_HUGEPAGE);
#endif
    }
    T* data() { return memory.get(); }
};
template <class T> std::vector<Scratch<T>> scratches(int number, int64_t size) {
    std::vector<Scratch<T>> result;
    for (int t = 0; t < number; ++t) result.emplace_back(size_t(size) * sizeof(T));
    return result;
}

template <class T, int N>
void filter_block(const Step<T>* steps, int64_t pixels, const T* values, int count, const T* norm, T* filtered, T* scratch) {
    auto* rows = reinterpret_cast<Row<T, N>*>(scratch);
    to_rows<T, N>(values, count, pixels, nullptr, rows);
    upward(steps, pixels, rows);
    downward(steps, pixels, rows);
    to_planes<T, N>(rows, count, pixels, norm, filtered);
}

template <class T, int N>
void gradient_block(const Step<T>* steps, int64_t pixels, const T* values, const T* grad, int count, const T* norm, T* grad_values,
                    T* slope, T* scratch) {
    auto* u = reinterpret_cast<Row<T, N>*>(scratch);
    to_rows<T, N>(grad, count, pixels, norm, u);
    upward(steps, pixels, u);
    if (slope) {
        Row<T, N>* s = u + pixels;
        to_rows<T, N>(values, count, pixels, nullptr, s);
        upward(steps, pixels, s);
        downward_both(steps, pixels, s, u, slope);
    } else {
        downward(steps, pixels, u);
    }
    if (grad_values) to_planes<T, N>(u, count, pixels, nullptr, grad_values);
}

// Every image's steps, one after the other; null if the tree does not fit the grid.
template <class T> std::unique_ptr<Step<T>[]> all_steps(const TreeShape& s, const TreeArrays<T>& x) {
    const int64_t pixels = s.height * s.width;
    std::unique_ptr<Step<T>[]> steps(new Step<T>[s.images * pixels]);
    bool fits = true;
#pragma omp parallel for num_threads(s.threads) schedule(dynamic) reduction(&& : fits)
    for (int64_t b = 0; b < s.images; ++b)
        fits = list_steps(x.affinity + b * 2 * pixels, x.parent + b * pixels, x.order + b * pixels, s.width, pixels,
                          steps.get() + b * pixels) &&
               fits;
    if (!fits) steps.reset();
    return steps;
}

template <class T> bool filter(const TreeShape& s, const TreeArrays<T>& x) {
    const int64_t pixels = s.height * s.width;
    const auto steps = all_steps(s, x);
    if (!steps) return false;
#pragma omp parallel for num_threads(s.threads) schedule(dynamic)
    for (int64_t b = 0; b < s.images; ++b) {
        T* norm = x.norm + b * pixels;
        std::fill(norm, norm + pixels, T(1));
        upward(steps.get() + b * pixels, pixels, norm);
        downward(steps.get() + b * pixels, pixels, norm);
    }
    const Blocks blocks(s.classes);
    const int64_t tasks = s.images * blocks.number;
    const int threads = team(s, tasks);
    auto scratch = scratches<T>(threads, pixels * blocks.lanes());
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t task = 0; task < tasks; ++task) {
        const int64_t b = task / blocks.number, n = task % blocks.number, at = (b * s.classes + blocks.first(n)) * pixels;
        const auto run = blocks.lanes() == 4 ? filter_block<T, 4> : filter_block<T, 8>;
        run(steps.get() + b * pixels, pixels, x.values + at, blocks.count(n), x.norm + b * pixels, x.filtered + at,
            scratch[here()].data());
    }
    return true;
}

template <class T> bool gradient(const TreeShape& s, const TreeArrays<T>& x) {
    const int64_t pixels = s.height * s.width;
    const auto steps = all_steps(s, x);
    if (!steps) return false;
    const Blocks blocks(s.classes);
    const bool slopes = x.grad_affinity;
    const int64_t parts = blocks.number + (slopes ? 1 : 0), tasks = s.images * parts;
    const int threads = team(s, tasks);
    auto scratch = scratches<T>(threads, std::max<int64_t>(pixels * blocks.lanes() * (slopes ? 2 : 1), 2 * pixels));
    std::unique_ptr<T[]> slope(slopes ? new T[tasks * pixels] : nullptr);
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t task = 0; task < tasks; ++task) {
        const int64_t b = task / parts, n = task % parts, at = (b * s.classes + blocks.first(n)) * pixels;
        const Step<T>* steps_ = steps.get() + b * pixels;
        const T* norm = x.given_norm + b * pixels;
        T* scratch_ = scratch[here()].data();
        T* slope_ = slopes ? slope.get() + task * pixels : nullptr;
        if (n < blocks.number) {
            const auto run = blocks.lanes() == 4 ? gradient_block<T, 4> : gradient_block<T, 8>;
            run(steps_, pixels, x.values + at, x.grad + at, blocks.count(n), norm, x.grad_values ? x.grad_values + at : nullptr,
                slope_, scratch_);
        } else {  // n's part: minus u . filtered against ones
            T *ones = scratch_, *through = scratch_ + pixels;
            std::fill(ones, ones + pixels, T(1));
            std::fill(through, through + pixels, T(0));
            for (int64_t c = 0; c < s.classes; ++c) {
                const T* grad = x.grad + (b * s.classes + c) * pixels;
                const T* filtered = x.given_filtered + (b * s.classes + c) * pixels;
                for (int64_t i = 0; i < pixels; ++i) through[i] -= grad[i] * filtered[i];
            }
            for (int64_t i = 0; i < pixels; ++i) through[i] /= norm[i];
            upward(steps_, pixels, ones);
            upward(steps_, pixels, through);
            downward_both(steps_, pixels, ones, through, slope_);
        }
    }
    if (!slopes) return true;
#pragma omp parallel for num_threads(s.threads) schedule(dynamic)
    for (int64_t b = 0; b < s.images; ++b) {
        T* to = x.grad_affinity + b * 2 * pixels;
        std::fill(to, to + 2 * pixels, T(0));
        for (int64_t k = 0; k < pixels; ++k) {
            const Step<T>& step = steps[b * pixels + k];
            if (step.p == step.v) continue;
            T sum = 0;
            for (int64_t n = 0; n < parts; ++n) sum += slope[(b * parts + n) * pixels + k];
            to[edge_of(step.v, step.p, s.width, pixels)] = sum;
        }
    }
    return true;
}

}  // namespace

void tree_build32(const TreeShape& s, const float* weights, int32_t* parent, int32_t* order) { build(s, weights, parent, order); }
void tree_build64(const TreeShape& s, const double* weights, int32_t* parent, int32_t* order) { build(s, weights, parent, order); }
bool tree_filter32(const TreeShape& s, const TreeArrays<float>& x) { return filter(s, x); }
bool tree_filter64(const TreeShape& s, const TreeArrays<double>& x) { return filter(s, x); }
bool tree_gradient32(const TreeShape& s, const TreeArrays<float>& x) { return gradient(s, x); }
bool tree_gradient64(const TreeShape& s, const TreeArrays<double>& x) { return gradient(s, x); }

}  // namespace ARCH
