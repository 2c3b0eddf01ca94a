// Python face of the tree filter: torch tensors come in through DLPack, results are written into tensors given.
#include "arch.hpp"
#include "tree.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <optional>

namespace nb = nanobind;

#define DECLARE(arch)                                                                                   \
    namespace arch {                                                                                    \
    void tree_build32(const TreeShape&, const float*, int32_t*, int32_t*);                              \
    void tree_build64(const TreeShape&, const double*, int32_t*, int32_t*);                             \
    bool tree_filter32(const TreeShape&, const TreeArrays<float>&);                                     \
    bool tree_filter64(const TreeShape&, const TreeArrays<double>&);                                    \
    bool tree_gradient32(const TreeShape&, const TreeArrays<float>&);                                   \
    bool tree_gradient64(const TreeShape&, const TreeArrays<double>&);                                  \
    }
DECLARE(baseline)
#if defined(HAS_avx512)
DECLARE(avx2)
DECLARE(avx512)
#endif

namespace {

template <class T> using Maps = nb::ndarray<T, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
template <class T> using Plane = nb::ndarray<T, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
template <class T> using List = nb::ndarray<T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

template <class A> TreeShape shape_of(const A& maps, int threads) {
    TreeShape s{int64_t(maps.shape(0)), int64_t(maps.shape(1)), int64_t(maps.shape(2)), int64_t(maps.shape(3)),
                threads < 1 ? 1 : threads};
    if (s.height * s.width < 1 || s.height * s.width > (int64_t(1) << 30))
        throw nb::value_error("tree: an image needs between 1 and 2^30 pixels");
    return s;
}
template <class A> bool is_maps(const A& x, const TreeShape& s, int64_t channels) {
    return int64_t(x.shape(0)) == s.images && int64_t(x.shape(1)) == channels && int64_t(x.shape(2)) == s.height &&
           int64_t(x.shape(3)) == s.width;
}
template <class A> bool is_plane(const A& x, const TreeShape& s) {
    return int64_t(x.shape(0)) == s.images && int64_t(x.shape(1)) == s.height && int64_t(x.shape(2)) == s.width;
}
template <class A> bool is_list(const A& x, const TreeShape& s) {
    return int64_t(x.shape(0)) == s.images && int64_t(x.shape(1)) == s.height * s.width;
}
void require(bool fits) {
    if (!fits) throw nb::value_error("tree: the arrays differ in shape");
}
void require_tree(bool fits) {
    if (!fits) throw nb::value_error("tree: a number of the tree is not a pixel of the grid");
}

template <class T, class Build, class Filter, class Gradient>
void define(nb::module_& m, Build run_build, Filter run_filter, Gradient run_gradient) {
    m.def(
        "build",
        [run_build](Maps<const T> weights, List<int32_t> parent, List<int32_t> order, int threads) {
            const TreeShape s = shape_of(weights, threads);
            require(is_maps(weights, s, 2) && is_list(parent, s) && is_list(order, s));
            nb::gil_scoped_release release;
            run_build(s, weights.data(), parent.data(), order.data());
        },
        nb::arg("weights").noconvert(), nb::arg("parent").noconvert(), nb::arg("order").noconvert(), nb::arg("threads"));
    m.def(
        "filter",
        [run_filter](Maps<const T> values, Maps<const T> affinity, List<const int32_t> parent, List<const int32_t> order,
                     Maps<T> filtered, Plane<T> norm, int threads) {
            const TreeShape s = shape_of(values, threads);
            require(is_maps(affinity, s, 2) && is_list(parent, s) && is_list(order, s) && is_maps(filtered, s, s.classes) &&
                    is_plane(norm, s));
            TreeArrays<T> x{};
            x.values = values.data(), x.affinity = affinity.data(), x.parent = parent.data(), x.order = order.data();
            x.filtered = filtered.data(), x.norm = norm.data();
            bool fits;
            {
                nb::gil_scoped_release release;
                fits = run_filter(s, x);
            }
            require_tree(fits);
        },
        nb::arg("values").noconvert(), nb::arg("affinity").noconvert(), nb::arg("parent").noconvert(), nb::arg("order").noconvert(),
        nb::arg("filtered").noconvert(), nb::arg("norm").noconvert(), nb::arg("threads"));
    m.def(
        "gradient",
        [run_gradient](Maps<const T> grad, Maps<const T> values, Maps<const T> filtered, Plane<const T> norm, Maps<const T> affinity,
                       List<const int32_t> parent, List<const int32_t> order, std::optional<Maps<T>> grad_values,
                       std::optional<Maps<T>> grad_affinity, int threads) {
            const TreeShape s = shape_of(values, threads);
            require(is_maps(grad, s, s.classes) && is_maps(filtered, s, s.classes) && is_plane(norm, s) && is_maps(affinity, s, 2) &&
                    is_list(parent, s) && is_list(order, s) && (!grad_values || is_maps(*grad_values, s, s.classes)) &&
                    (!grad_affinity || is_maps(*grad_affinity, s, 2)));
            TreeArrays<T> x{};
            x.values = values.data(), x.affinity = affinity.data(), x.parent = parent.data(), x.order = order.data();
            x.grad = grad.data(), x.given_filtered = filtered.data(), x.given_norm = norm.data();
            x.grad_values = grad_values ? grad_values->data() : nullptr;
            x.grad_affinity = grad_affinity ? grad_affinity->data() : nullptr;
            bool fits;
            {
                nb::gil_scoped_release release;
                fits = run_gradient(s, x);
            }
            require_tree(fits);
        },
        nb::arg("grad").noconvert(), nb::arg("values").noconvert(), nb::arg("filtered").noconvert(), nb::arg("norm").noconvert(),
        nb::arg("affinity").noconvert(), nb::arg("parent").noconvert(), nb::arg("order").noconvert(),
        nb::arg("grad_values").noconvert().none(), nb::arg("grad_affinity").noconvert().none(), nb::arg("threads"));
}

}  // namespace

NB_MODULE(_tree, m) {
    m.doc() = "Minimum spanning tree of a grid and the filter along it; scribbleseg.ops.tree has the definition.";
    define<float>(m, PICK(tree_build32), PICK(tree_filter32), PICK(tree_gradient32));
    define<double>(m, PICK(tree_build64), PICK(tree_filter64), PICK(tree_gradient64));
}
