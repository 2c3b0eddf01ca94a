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
#include "windowed_patch.hpp"

#include <algorithm>
#include <cmath>
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

// What a thread works with.
template <class T> struct Desk {
    Patch<T> patch;
    Lines<T> lines_p, lines_g;
    Desk(const WindowedShape& s, const WindowedArrays<T>& arrays)
        : patch(s), lines_p(arrays.grad_probs ? s.classes : 0, s.width), lines_g(arrays.grad_guide ? s.guides : 0, s.width) {}
};

// ROWS rows that are `dilation` apart.
template <class T, int R, bool SYMMETRIC, int ROWS>
void visit_rows(const WindowedShape& s, const WindowedArrays<T>& arrays, Image<T>& padded, int64_t image, int64_t y, Desk<T>& desk,
                double* energy) {
    const int64_t pixels = s.height * s.width;
    Patch<T>& patch = desk.patch;
    for (int64_t x = 0; x < s.width; x += LANES<T>) {
        double part[TALLEST] = {};
        visit<T, R, SYMMETRIC, ROWS>(s, padded, y, x, arrays.grad_probs != nullptr, arrays.grad_guide != nullptr, patch, part);
        for (int r = 0; r < ROWS; ++r) {
            energy[y + int64_t(r) * s.dilation] += part[r];
            desk.lines_p.put(r, x, patch.grad_p[r]);
            desk.lines_g.put(r, x, patch.grad_g[r]);
        }
    }
    for (int r = 0; r < ROWS; ++r) {
        const int64_t at = (y + int64_t(r) * s.dilation) * s.width;
        if (arrays.grad_probs) desk.lines_p.write(r, arrays.grad_probs + image * s.classes * pixels + at, pixels, s.width);
        if (arrays.grad_guide) desk.lines_g.write(r, arrays.grad_guide + image * s.guides * pixels + at, pixels, s.width);
    }
}

template <class T, int R, bool SYMMETRIC> double run(const WindowedShape& s, const WindowedArrays<T>& arrays) {
    Image<T> padded(s);
    std::vector<double> energy(s.height);
    double total = 0;
#pragma omp parallel num_threads(s.threads)
    {
        Desk<T> desk(s, arrays);
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
                    visit_rows<T, R, SYMMETRIC, TALLEST>(s, arrays, padded, image, y, desk, energy.data());
                else
                    for (int64_t row = y; row < std::min(s.height, y + TALLEST * s.dilation); row += s.dilation)
                        visit_rows<T, R, SYMMETRIC, 1>(s, arrays, padded, image, row, desk, energy.data());
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
