// Windowed Gaussian energy and its gradients in one pass. scribbleseg.ops.windowed has the definition.
//
//     w_ij = (a_i b_j + b_i a_j) k_ij,   E = 1/2 sum_ij w_ij phi_ij
//     dE/dp_i = sum_j w_ij (phi_u p_j + 2 phi_n p_i),   dE/dg_i = sum_j w_ij phi_ij (g_j - g_i)
//
// where phi(u, n_i, n_j) is a function of u = p_i.p_j and of the squared lengths n. Every pixel visits its whole window, so
// that its gradients are sums in registers: nothing is scattered, no thread writes where another does, and the result does
// not depend on the number of threads. Pixels go in vectors along x; a row is padded by one vector on either side, so that a
// neighbour beyond the border is a pixel of weight zero.
#include "simd.hpp"
#include "windowed.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <type_traits>
#include <vector>

namespace ARCH {
namespace {

enum Relaxation { BILINEAR, QUADRATIC, LOG_QUADRATIC, COLLISION };
template <class T> constexpr T SMALLEST = T(1e-6);  // under the logarithm, as in the definition

// phi and its derivatives by u and by n_i.
template <class T, int R>
inline void relax(vec<T> u, vec<T> n_i, vec<T> n_j, vec<T>& phi, vec<T>& by_u, vec<T>& by_n) {
    const vec<T> zero = fill<T>(0), one = fill<T>(1), smallest = fill<T>(SMALLEST<T>);
    if (R == BILINEAR) {
        phi = one - u, by_u = -one, by_n = zero;
    } else if (R == QUADRATIC) {
        phi = T(0.5) * (n_i + n_j) - u, by_u = -one, by_n = fill<T>(0.5);
    } else if (R == LOG_QUADRATIC) {
        vec<T> left = one - T(0.5) * (n_i + n_j) + u;
        vec<T> safe = left > smallest ? left : smallest;
        vec<T> slope = left > smallest ? one / safe : zero;
        phi = -log_each<T>(safe), by_u = -slope, by_n = T(0.5) * slope;
    } else {
        vec<T> safe_u = u > smallest ? u : smallest, safe_i = n_i > smallest ? n_i : smallest, safe_j = n_j > smallest ? n_j : smallest;
        phi = T(0.5) * (log_each<T>(safe_i) + log_each<T>(safe_j)) - log_each<T>(safe_u);
        by_u = u > smallest ? -one / safe_u : zero;
        by_n = n_i > smallest ? T(0.5) / safe_i : zero;
    }
}

// One image's planes with a margin of a vector on the left and on the right of every row.
constexpr int SKEW = 5;
template <class T> struct Padded {
    int64_t width, row, plane;
    std::unique_ptr<vec<T>[]> data;  // of vectors, so that it is aligned like one
    Padded(int64_t planes, int64_t height, int64_t width)
        : width(width), row((width + 3 * LANES<T> - 1) / LANES<T> * LANES<T>), plane(skewed(row * height)),
          data(new vec<T>[plane * planes / LANES<T>]) {}
    // Planes a multiple of 4 KiB apart would fall on the same few lines of the first cache.
    static int64_t skewed(int64_t n) {
        constexpr int64_t LINE = 64 / sizeof(T), PAGE = 64 * LINE;
        const int64_t lines = (n + LINE - 1) / LINE * LINE;
        return (lines + PAGE - 1) / PAGE * PAGE + SKEW * LINE;
    }
    T* at(int64_t plane_, int64_t y) { return reinterpret_cast<T*>(data.get()) + plane_ * plane + y * row + LANES<T>; }
    void set(int64_t plane_, int64_t y, const T* from) {  // null for ones
        T* to = at(plane_, y);
        if (from) std::copy(from, from + width, to);
        else std::fill(to, to + width, T(1));
        std::fill(to - LANES<T>, to, T(0));
        std::fill(to + width, to + row - LANES<T>, T(0));
    }
};

constexpr int TALLEST = 4;

// A patch is one vector of pixels in each of ROWS rows that are `dilation` apart: they share most of their neighbours, so that
// what is loaded of a neighbour serves all of them. `own` is where a row's pixels stand, from the first row's.
template <class T> struct Patch {
    std::vector<int64_t> place;        // where each neighbour stands, from the first row's pixels
    std::vector<T> near[TALLEST];            // its part of the exponent, for each row
    int first[TALLEST], last[TALLEST];             // the neighbours that are in each row's window
    std::vector<vec<T>> pull[TALLEST], push[TALLEST];   // w dphi/du and w phi of each neighbour
    std::vector<vec<T>> grad_p[TALLEST], grad_g[TALLEST];
    int64_t own[TALLEST];
    int count;
    Patch(const WindowedShape& s) {
        const size_t most = size_t(2 * s.radius + TALLEST) * (2 * s.radius + 1);
        place.resize(most);
        for (int r = 0; r < TALLEST; ++r) {
            near[r].resize(most), pull[r].resize(most), push[r].resize(most);
            grad_p[r].resize(s.classes), grad_g[r].resize(s.guides);
        }
    }
    int64_t listed = -1;  // the first row of the list, where all columns of the window are in it
    // Lists the neighbours that lie in the image, at least for one lane. Most patches of a row share one list.
    void look_around(const WindowedShape& s, int rows, int64_t row_length, int64_t y, int64_t x) {
        const double scale = -0.5 * s.dilation * s.dilation / (s.sigma_px * s.sigma_px);
        const T never = T(-1e30);
        const int64_t reach = int64_t(s.radius) * s.dilation;
        const bool whole = x - reach + LANES<T> > 0 && x + reach < s.width;
        if (whole && listed == y) return;
        listed = whole ? y : -1;
        count = 0;
        for (int r = 0; r < rows; ++r) first[r] = -1, own[r] = int64_t(r) * s.dilation * row_length;
        for (int dy = -s.radius; dy < s.radius + rows; ++dy) {
            const int64_t row = y + int64_t(dy) * s.dilation;
            if (row < 0 || row >= s.height) continue;
            for (int r = 0; r < rows; ++r) {
                if (dy - r >= -s.radius && first[r] < 0) first[r] = count;
                if (dy - r <= s.radius) last[r] = count;
            }
            for (int dx = -s.radius; dx <= s.radius; ++dx) {
                const int64_t column = x + int64_t(dx) * s.dilation;
                if (column + LANES<T> <= 0 || column >= s.width) continue;
                place[count] = (int64_t(dy) * row_length + dx) * s.dilation;
                for (int r = 0; r < rows; ++r)
                    near[r][count] = dx == 0 && dy == r ? never : T(scale * ((dy - r) * (dy - r) + dx * dx));
                ++count;
            }
            for (int r = 0; r < rows; ++r)
                if (dy - r <= s.radius) last[r] = count;
        }
    }
};

// Calls f(rows, row, from, to) for the stretches of neighbours that lie in the windows of `rows` rows from `row` on (and for a
// few that lie in only one of two). A patch of four reaches three rows further than one of its windows does.
template <int ROWS, class T, class F> inline void each_stretch(const Patch<T>& patch, F f) {
    if constexpr (ROWS == 4) {
        f(std::integral_constant<int, 2>(), 0, 0, patch.first[2]);
        f(std::integral_constant<int, 4>(), 0, patch.first[2], patch.last[1]);
        f(std::integral_constant<int, 2>(), 2, patch.last[1], patch.count);
    } else {
        f(std::integral_constant<int, ROWS>(), 0, 0, patch.count);
    }
}

// As many sums as there are registers for them.
template <int ROWS> constexpr int BLOCK = (BYTES == 64 ? 24 : 8) / ROWS;

// out[row + r][c] += sum_o weight[row + r][o] in[c] at neighbour o, for COUNT planes at once.
template <class T, int ROWS, int COUNT>
inline void gather(const T* in, int64_t plane, const std::vector<vec<T>>* weight, const int64_t* place, int from, int to,
                   std::vector<vec<T>>* out, int64_t at) {
    vec<T> sum[ROWS][COUNT];
    for (int r = 0; r < ROWS; ++r)
        for (int c = 0; c < COUNT; ++c) sum[r][c] = out[r][at + c];
    for (int o = from; o < to; ++o) {
        const T* there = in + place[o];
        vec<T> k[ROWS];
        for (int r = 0; r < ROWS; ++r) k[r] = weight[r][o];
        for (int c = 0; c < COUNT; ++c) {
            const vec<T> v = load_once(there + c * plane);
            for (int r = 0; r < ROWS; ++r) sum[r][c] += k[r] * v;
        }
    }
    for (int r = 0; r < ROWS; ++r)
        for (int c = 0; c < COUNT; ++c) out[r][at + c] = sum[r][c];
}

template <class T, int ROWS>
inline void gather_all(const T* in, int64_t plane, int64_t count, const std::vector<vec<T>>* weight, const Patch<T>& patch,
                       std::vector<vec<T>>* out) {
    for (int r = 0; r < ROWS; ++r) std::fill(out[r].begin(), out[r].end(), fill<T>(0));
    each_stretch<ROWS>(patch, [&](auto rows, int row, int from, int to) {
        constexpr int N = decltype(rows)::value, MOST = BLOCK<N>;
        const int64_t* place = patch.place.data();
        int64_t c = 0;
        for (; c + MOST <= count; c += MOST) gather<T, N, MOST>(in + c * plane, plane, weight + row, place, from, to, out + row, c);
        for (; c + 3 <= count; c += 3) gather<T, N, 3>(in + c * plane, plane, weight + row, place, from, to, out + row, c);
        for (; c < count; ++c) gather<T, N, 1>(in + c * plane, plane, weight + row, place, from, to, out + row, c);
    });
}

// out[row + r][o] = sum_c (in[c] - in[c] at o)^2, or the dot product of the two, for COUNT neighbours from o on.
template <class T, int ROWS, int COUNT, bool DOT>
inline void compare(const T* in, int64_t plane, int64_t count, const int64_t* own, const int64_t* place, int o, std::vector<vec<T>>* out) {
    vec<T> sum[ROWS][COUNT];
    for (int r = 0; r < ROWS; ++r)
        for (int k = 0; k < COUNT; ++k) sum[r][k] = fill<T>(0);
    for (int64_t c = 0; c < count; ++c) {
        const T* here = in + c * plane;
        vec<T> mine[ROWS];
        for (int r = 0; r < ROWS; ++r) mine[r] = load(here + own[r]);
        for (int k = 0; k < COUNT; ++k) {
            const vec<T> v = load_once(here + place[o + k]);
            for (int r = 0; r < ROWS; ++r) {
                const vec<T> step = mine[r] - v;
                sum[r][k] += DOT ? mine[r] * v : step * step;
            }
        }
    }
    for (int r = 0; r < ROWS; ++r)
        for (int k = 0; k < COUNT; ++k) out[r][o + k] = sum[r][k];
}

template <class T, int ROWS, bool DOT>
inline void compare_all(const T* in, int64_t plane, int64_t count, const Patch<T>& patch, std::vector<vec<T>>* out) {
    each_stretch<ROWS>(patch, [&](auto rows, int row, int o, int to) {
        constexpr int N = decltype(rows)::value, MOST = BLOCK<N>;
        const int64_t *own = patch.own + row, *place = patch.place.data();
        for (; o + MOST <= to; o += MOST) compare<T, N, MOST, DOT>(in, plane, count, own, place, o, out + row);
        for (; o + 3 <= to; o += 3) compare<T, N, 3, DOT>(in, plane, count, own, place, o, out + row);
        for (; o < to; ++o) compare<T, N, 1, DOT>(in, plane, count, own, place, o, out + row);
    });
}

// One image, padded: scores, guide, the two weights and the squared length of the scores.
template <class T> struct Image {
    Padded<T> probs, guide, weight, norm;
    Image(const WindowedShape& s)
        : probs(s.classes, s.height, s.width), guide(s.guides, s.height, s.width), weight(2, s.height, s.width),
          norm(1, s.height, s.width) {}
    void set(const WindowedShape& s, const WindowedArrays<T>& arrays, int64_t image, int64_t y) {
        const int64_t pixels = s.height * s.width, at = image * pixels + y * s.width;
        T* n = norm.at(0, y);
        std::fill(n - LANES<T>, n - LANES<T> + norm.row, T(0));
        for (int64_t c = 0; c < s.classes; ++c) {
            const T* p = arrays.probs + (image * s.classes + c) * pixels + y * s.width;
            probs.set(c, y, p);
            for (int64_t x = 0; x < s.width; ++x) n[x] += p[x] * p[x];
        }
        for (int64_t d = 0; d < s.guides; ++d) guide.set(d, y, arrays.guide + (image * s.guides + d) * pixels + y * s.width);
        weight.set(0, y, arrays.source ? arrays.source + at : nullptr);
        weight.set(1, y, arrays.destination ? arrays.destination + at : nullptr);
    }
};

// The kernels of a patch's whole windows, then the sums over them. Adds each row's share of the energy to `energy`.
template <class T, int R, bool SYMMETRIC, int ROWS>
void visit(const WindowedShape& s, Image<T>& image, int64_t y, int64_t x, bool want_probs, bool want_guide, Patch<T>& patch,
           double* energy) {
    constexpr int L = LANES<T>;
    const T *p = image.probs.at(0, y) + x, *g = image.guide.at(0, y) + x, *n = image.norm.at(0, y) + x;
    const T *a = image.weight.at(0, y) + x, *b = SYMMETRIC ? a : image.weight.at(1, y) + x;
    const bool dot = R != BILINEAR || want_guide;
    patch.look_around(s, ROWS, image.probs.row, y, x);
    compare_all<T, ROWS, false>(g, image.guide.plane, s.guides, patch, patch.pull);
    if (dot) compare_all<T, ROWS, true>(p, image.probs.plane, s.classes, patch, patch.push);
    vec<T> value[ROWS], by_norm[ROWS];
    for (int r = 0; r < ROWS; ++r) {
        const int64_t own = patch.own[r];
        const vec<T> a_i = load(a + own), b_i = load(b + own), n_i = load(n + own), zero = fill<T>(0);
        vec<T>*pull = patch.pull[r].data(), *push = patch.push[r].data();
        value[r] = by_norm[r] = zero;
        for (int o = 0; o < patch.count; ++o) {
            if (o < patch.first[r] || o >= patch.last[r]) {
                pull[o] = push[o] = zero;
                continue;
            }
            const int64_t at = patch.place[o];
            vec<T> w = exp_negative(patch.near[r][o] - T(0.5) * pull[o]);
            w *= SYMMETRIC ? T(2) * a_i * load(a + at) : a_i * load(b + at) + b_i * load(a + at);
            if (dot) {
                vec<T> phi, by_u, by_n;
                relax<T, R>(push[o], n_i, load(n + at), phi, by_u, by_n);
                value[r] += w * phi;
                by_norm[r] += w * by_n;
                push[o] = w * phi;
                pull[o] = w * by_u;
            } else {
                value[r] += w;
                pull[o] = w;
            }
        }
    }
    if (!dot || want_probs) gather_all<T, ROWS>(p, image.probs.plane, s.classes, patch.pull, patch, patch.grad_p);
    if (want_guide) gather_all<T, ROWS>(g, image.guide.plane, s.guides, patch.push, patch, patch.grad_g);
    for (int r = 0; r < ROWS; ++r) {
        const T *own_p = p + patch.own[r], *own_g = g + patch.own[r];
        vec<T>*grad_p = patch.grad_p[r].data(), *grad_g = patch.grad_g[r].data();
        if (!dot) {  // bilinear: sum_j w (1 - p_i.p_j) = sum_j w - p_i.(sum_j w p_j), and that last sum is the gradient
            for (int64_t c = 0; c < s.classes; ++c) {
                value[r] -= load(own_p + c * image.probs.plane) * grad_p[c];
                grad_p[c] = -grad_p[c];
            }
        } else if (want_probs && R != BILINEAR) {
            for (int64_t c = 0; c < s.classes; ++c) grad_p[c] += T(2) * by_norm[r] * load(own_p + c * image.probs.plane);
        }
        if (want_guide)
            for (int64_t d = 0; d < s.guides; ++d) grad_g[d] -= value[r] * load(own_g + d * image.guide.plane);
        for (int lane = 0; lane < std::min<int64_t>(L, s.width - x); ++lane) energy[r] += 0.5 * value[r][lane];
    }
}

// One row, or two that are `dilation` apart.
template <class T, int R, bool SYMMETRIC, int ROWS>
void visit_rows(const WindowedShape& s, const WindowedArrays<T>& arrays, Image<T>& padded, int64_t image, int64_t y, Patch<T>& patch,
                double* energy) {
    const int64_t pixels = s.height * s.width;
    for (int64_t x = 0; x < s.width; x += LANES<T>) {
        double part[TALLEST] = {};
        visit<T, R, SYMMETRIC, ROWS>(s, padded, y, x, arrays.grad_probs != nullptr, arrays.grad_guide != nullptr, patch, part);
        const size_t bytes = size_t(std::min<int64_t>(LANES<T>, s.width - x)) * sizeof(T);
        for (int r = 0; r < ROWS; ++r) {
            const int64_t row = y + int64_t(r) * s.dilation, at = row * s.width + x;
            energy[row] += part[r];
            if (arrays.grad_probs)
                for (int64_t c = 0; c < s.classes; ++c)
                    std::memcpy(arrays.grad_probs + (image * s.classes + c) * pixels + at, &patch.grad_p[r][c], bytes);
            if (arrays.grad_guide)
                for (int64_t d = 0; d < s.guides; ++d)
                    std::memcpy(arrays.grad_guide + (image * s.guides + d) * pixels + at, &patch.grad_g[r][d], bytes);
        }
    }
}

template <class T, int R, bool SYMMETRIC> double run(const WindowedShape& s, const WindowedArrays<T>& arrays) {
    Image<T> padded(s);
    std::vector<double> energy(s.height);
    double total = 0;
#pragma omp parallel num_threads(s.threads)
    {
        Patch<T> patch(s);
        for (int64_t image = 0; image < s.images; ++image) {
#pragma omp for schedule(static)
            for (int64_t y = 0; y < s.height; ++y) {
                padded.set(s, arrays, image, y);
                energy[y] = 0;
            }
#pragma omp for schedule(dynamic, 2)
            for (int64_t n = 0; n < s.height / TALLEST + s.dilation; ++n) {  // patch n: every TALLEST x dilation rows
                const int64_t y = n / s.dilation * TALLEST * s.dilation + n % s.dilation;
                if (y + (TALLEST - 1) * s.dilation < s.height)
                    visit_rows<T, R, SYMMETRIC, TALLEST>(s, arrays, padded, image, y, patch, energy.data());
                else
                    for (int64_t row = y; row < std::min(s.height, y + TALLEST * s.dilation); row += s.dilation)
                        visit_rows<T, R, SYMMETRIC, 1>(s, arrays, padded, image, row, patch, energy.data());
            }
#pragma omp single
            for (int64_t y = 0; y < s.height; ++y) total += energy[y];
        }
    }
    return total;
}

template <class T, int R> double either(const WindowedShape& s, const WindowedArrays<T>& arrays) {
    return arrays.source == arrays.destination ? run<T, R, true>(s, arrays) : run<T, R, false>(s, arrays);
}

template <class T> double dispatch(const WindowedShape& s, const WindowedArrays<T>& arrays) {
    switch (s.relaxation) {
        case QUADRATIC: return either<T, QUADRATIC>(s, arrays);
        case LOG_QUADRATIC: return either<T, LOG_QUADRATIC>(s, arrays);
        case COLLISION: return either<T, COLLISION>(s, arrays);
        default: return either<T, BILINEAR>(s, arrays);
    }
}

}  // namespace

double windowed32(const WindowedShape& s, const WindowedArrays<float>& arrays) { return dispatch<float>(s, arrays); }
double windowed64(const WindowedShape& s, const WindowedArrays<double>& arrays) { return dispatch<double>(s, arrays); }

}  // namespace ARCH
