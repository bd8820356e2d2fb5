// Convolutions on channels-last float32 arrays through oneDNN, with every primitive kept for the next call. Asked to, they take what
// bfloat16 keeps of their operands and add up in float32: directly, for minimal filtering over such products saves one twentieth.
#include <array>
#include <map>
#include <memory>
#include <stdexcept>

#include "arena.h"
#include "dnnl.hpp"
#include "winograd.h"

using namespace dnnl;
using tag = memory::format_tag;

namespace {

enum Kind : long { kForward, kBackwardData, kBackwardWeights };
// kind, n, channels in, height, width, channels out, kernel height, kernel width, stride, padding top, left, bottom, right, bfloat16
using Shape = std::array<long, 14>;

engine& cpu() {
    static engine e(engine::kind::cpu, 0);
    return e;
}

stream& queue() {
    static stream s(cpu());
    return s;
}

// An operand as the caller has it and as the primitive takes or gives it, with what makes the one of the other.
struct Operand {
    memory::desc user, inner;
    primitive copy;
    bool plain;
};

struct Convolution {
    Operand x, w, y;
    memory::desc b, scratch;
    primitive run;
};

Operand operand(const memory::desc& user, const memory::desc& inner, bool given) {
    Operand o{user, inner, {}, user == inner};
    if (!o.plain) o.copy = reorder(reorder::primitive_desc(cpu(), given ? inner : user, cpu(), given ? user : inner));
    return o;
}

Convolution make(const Shape& s) {
    const auto f32 = memory::data_type::f32, taken = s[13] ? memory::data_type::bf16 : f32;
    const auto kind = static_cast<Kind>(s[0]);
    const long oh = (s[3] + s[9] + s[11] - s[6]) / s[8] + 1, ow = (s[4] + s[10] + s[12] - s[7]) / s[8] + 1;
    const memory::dims strides = {s[8], s[8]}, before = {s[9], s[10]}, after = {s[11], s[12]};
    Convolution c;
    const memory::dims xs = {s[1], s[2], s[3], s[4]}, ys = {s[1], s[5], oh, ow}, ws = {s[5], s[2], s[6], s[7]};
    // What the primitive gives is float32.
    const memory::desc x(xs, taken, tag::nhwc), gx(xs, f32, tag::nhwc), y(ys, f32, tag::nhwc), gy(ys, taken, tag::nhwc);
    // Left to itself the library takes, forward, an order of the weights that it is slow to make: 0.7 ms for 256x256 channels, not 0.2.
    // With AMX the blocks are others.
    const bool blocks = s[13] && kind == kForward && s[6] > 1 && s[2] % 16 == 0 && s[5] % 16 == 0 &&
                        get_effective_cpu_isa() == cpu_isa::avx512_core_bf16;
    const memory::desc w_user(ws, f32, tag::oihw), w_any(ws, taken, blocks ? tag::OIhw8i16o2i : tag::any), gw_any(ws, f32, tag::any);
    memory::desc w;
    c.b = memory::desc({s[5]}, f32, tag::x);
    primitive_attr attr;
    attr.set_scratchpad_mode(scratchpad_mode::user);
    const auto algorithm = algorithm::convolution_direct;
    const convolution_forward::primitive_desc forward(
        {prop_kind::forward_training, algorithm, x, w_any, c.b, kind == kForward ? y : gy, strides, before, after}, attr, cpu());
    if (kind == kForward) {
        w = forward.weights_desc();
        c.scratch = forward.scratchpad_desc();
        c.run = convolution_forward(forward);
    } else if (kind == kBackwardData) {
        const convolution_backward_data::primitive_desc d({algorithm, gx, w_any, gy, strides, before, after}, attr, cpu(), forward);
        w = d.weights_desc();
        c.scratch = d.scratchpad_desc();
        c.run = convolution_backward_data(d);
    } else {
        const convolution_backward_weights::primitive_desc d({algorithm, x, gw_any, c.b, gy, strides, before, after}, attr, cpu(),
                                                             forward);
        w = d.diff_weights_desc();
        c.scratch = d.scratchpad_desc();
        c.run = convolution_backward_weights(d);
    }
    c.x = operand(gx, kind == kBackwardData ? gx : x, kind == kBackwardData);
    c.w = operand(w_user, w, kind == kBackwardWeights);
    c.y = operand(y, kind == kForward ? y : gy, kind == kForward);
    return c;
}

const Convolution& find(const Shape& s) {
    static std::map<Shape, Convolution> made;
    const auto found = made.find(s);
    return found != made.end() ? found->second : made.emplace(s, make(s)).first->second;
}

memory view(const memory::desc& d, const void* data) { return memory(d, cpu(), const_cast<void*>(data)); }

void copy(const Operand& o, const memory& from, const memory& to) {
    if (!o.plain) o.copy.execute(queue(), {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}});
}

void convolve(const Shape& s, const float* x, const float* w, const float* b, const float* y) {
    static Arena arenas[3], scratch;
    const auto kind = static_cast<Kind>(s[0]);
    const Convolution& c = find(s);
    const Operand* const operands[3] = {&c.x, &c.w, &c.y};
    const float* const data[3] = {x, w, y};
    const int given = kind == kForward ? 2 : kind == kBackwardData ? 0 : 1;
    memory user[3], inner[3];
    for (int i = 0; i < 3; i++) {
        const Operand& o = *operands[i];
        user[i] = view(o.user, data[i]);
        inner[i] = o.plain ? user[i] : view(o.inner, arenas[i].get(o.inner.get_size()));
        if (i != given) copy(o, user[i], inner[i]);
    }
    const memory pad = view(c.scratch, scratch.get(c.scratch.get_size()));
    if (kind == kForward)
        c.run.execute(queue(), {{DNNL_ARG_SRC, inner[0]}, {DNNL_ARG_WEIGHTS, inner[1]}, {DNNL_ARG_BIAS, view(c.b, b)},
                                {DNNL_ARG_DST, inner[2]}, {DNNL_ARG_SCRATCHPAD, pad}});
    else if (kind == kBackwardData)
        c.run.execute(queue(), {{DNNL_ARG_DIFF_SRC, inner[0]}, {DNNL_ARG_WEIGHTS, inner[1]}, {DNNL_ARG_DIFF_DST, inner[2]},
                                {DNNL_ARG_SCRATCHPAD, pad}});
    else
        c.run.execute(queue(), {{DNNL_ARG_SRC, inner[0]}, {DNNL_ARG_DIFF_WEIGHTS, inner[1]}, {DNNL_ARG_DIFF_BIAS, view(c.b, b)},
                                {DNNL_ARG_DIFF_DST, inner[2]}, {DNNL_ARG_SCRATCHPAD, pad}});
    copy(*operands[given], inner[given], user[given]);
    queue().wait();
}

}  // namespace

extern "C" {

// y (n, oh, ow, co) of x (n, h, w, ci), weights (co, ci, kh, kw) and bias (co); bf16: of what bfloat16 keeps of x and the weights.
void ddpm_conv(const float* x, const float* weight, const float* bias, float* y, long n, long ci, long h, long w, long co, long kh,
               long kw, long stride, long top, long left, long bottom, long right, long bf16) {
    if (!bf16 && winograd_pays(n, ci, h, w, co, kh, kw, stride, top, left, bottom, right))
        winograd_products(x, weight, bias, y, n, ci, h, w, co, false);
    else
        convolve({kForward, n, ci, h, w, co, kh, kw, stride, top, left, bottom, right, bf16}, x, weight, bias, y);
}

void ddpm_conv_backward_data(const float* gy, const float* weight, float* gx, long n, long ci, long h, long w, long co, long kh, long kw,
                             long stride, long top, long left, long bottom, long right, long bf16) {
    if (!bf16 && winograd_pays(n, ci, h, w, co, kh, kw, stride, top, left, bottom, right))
        winograd_products(gy, weight, nullptr, gx, n, co, h, w, ci, true);
    else
        convolve({kBackwardData, n, ci, h, w, co, kh, kw, stride, top, left, bottom, right, bf16}, gx, weight, nullptr, gy);
}

void ddpm_conv_backward_weights(const float* x, const float* gy, float* gweight, float* gbias, long n, long ci, long h, long w, long co,
                                long kh, long kw, long stride, long top, long left, long bottom, long right, long bf16) {
    if (!bf16 && winograd_pays(n, ci, h, w, co, kh, kw, stride, top, left, bottom, right))
        winograd_weights(x, gy, gweight, gbias, n, ci, h, w, co);
    else
        convolve({kBackwardWeights, n, ci, h, w, co, kh, kw, stride, top, left, bottom, right, bf16}, x, gweight, gbias, gy);
}

}  // extern "C"
