// Convolutions on channels-last float32 arrays through oneDNN, with every primitive kept for the next call.
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
// kind, n, channels in, height, width, channels out, kernel height, kernel width, stride, padding top, left, bottom, right
using Shape = std::array<long, 13>;

engine& cpu() {
    static engine e(engine::kind::cpu, 0);
    return e;
}

stream& queue() {
    static stream s(cpu());
    return s;
}

struct Convolution {
    memory::desc x, w, b, y, w_user, scratch;
    primitive run, reorder_w;
    bool plain_w;
};

Convolution make(const Shape& s) {
    const auto f32 = memory::data_type::f32;
    const auto kind = static_cast<Kind>(s[0]);
    const long oh = (s[3] + s[9] + s[11] - s[6]) / s[8] + 1, ow = (s[4] + s[10] + s[12] - s[7]) / s[8] + 1;
    const memory::dims strides = {s[8], s[8]}, before = {s[9], s[10]}, after = {s[11], s[12]};
    Convolution c;
    c.x = memory::desc({s[1], s[2], s[3], s[4]}, f32, tag::nhwc);
    c.y = memory::desc({s[1], s[5], oh, ow}, f32, tag::nhwc);
    c.b = memory::desc({s[5]}, f32, tag::x);
    c.w_user = memory::desc({s[5], s[2], s[6], s[7]}, f32, tag::oihw);
    const memory::desc w_any({s[5], s[2], s[6], s[7]}, f32, tag::any);
    primitive_attr attr;
    attr.set_scratchpad_mode(scratchpad_mode::user);
    const auto algorithm = algorithm::convolution_direct;
    const convolution_forward::primitive_desc forward(
        {prop_kind::forward_training, algorithm, c.x, w_any, c.b, c.y, strides, before, after}, attr, cpu());
    if (kind == kForward) {
        c.w = forward.weights_desc();
        c.scratch = forward.scratchpad_desc();
        c.run = convolution_forward(forward);
    } else if (kind == kBackwardData) {
        const convolution_backward_data::primitive_desc d({algorithm, c.x, w_any, c.y, strides, before, after}, attr, cpu(), forward);
        c.w = d.weights_desc();
        c.scratch = d.scratchpad_desc();
        c.run = convolution_backward_data(d);
    } else {
        const convolution_backward_weights::primitive_desc d({algorithm, c.x, w_any, c.b, c.y, strides, before, after}, attr, cpu(),
                                                             forward);
        c.w = d.diff_weights_desc();
        c.scratch = d.scratchpad_desc();
        c.run = convolution_backward_weights(d);
    }
    c.plain_w = c.w == c.w_user;
    if (!c.plain_w) {
        const bool out = kind == kBackwardWeights;
        c.reorder_w = reorder(reorder::primitive_desc(cpu(), out ? c.w : c.w_user, cpu(), out ? c.w_user : c.w));
    }
    return c;
}

const Convolution& find(const Shape& s) {
    static std::map<Shape, Convolution> made;
    const auto found = made.find(s);
    return found != made.end() ? found->second : made.emplace(s, make(s)).first->second;
}

memory view(const memory::desc& d, const void* data) { return memory(d, cpu(), const_cast<void*>(data)); }

void convolve(const Shape& s, const float* x, const float* w, const float* b, const float* y) {
    static Arena weights, scratch;
    const auto kind = static_cast<Kind>(s[0]);
    const Convolution& c = find(s);
    const memory user = view(c.w_user, w);
    const memory inner = c.plain_w ? user : view(c.w, weights.get(c.w.get_size()));
    if (!c.plain_w && kind != kBackwardWeights) c.reorder_w.execute(queue(), {{DNNL_ARG_FROM, user}, {DNNL_ARG_TO, inner}});
    const memory pad = view(c.scratch, scratch.get(c.scratch.get_size()));
    if (kind == kForward)
        c.run.execute(queue(), {{DNNL_ARG_SRC, view(c.x, x)}, {DNNL_ARG_WEIGHTS, inner}, {DNNL_ARG_BIAS, view(c.b, b)},
                                {DNNL_ARG_DST, view(c.y, y)}, {DNNL_ARG_SCRATCHPAD, pad}});
    else if (kind == kBackwardData)
        c.run.execute(queue(), {{DNNL_ARG_DIFF_SRC, view(c.x, x)}, {DNNL_ARG_WEIGHTS, inner}, {DNNL_ARG_DIFF_DST, view(c.y, y)},
                                {DNNL_ARG_SCRATCHPAD, pad}});
    else
        c.run.execute(queue(), {{DNNL_ARG_SRC, view(c.x, x)}, {DNNL_ARG_DIFF_WEIGHTS, inner}, {DNNL_ARG_DIFF_BIAS, view(c.b, b)},
                                {DNNL_ARG_DIFF_DST, view(c.y, y)}, {DNNL_ARG_SCRATCHPAD, pad}});
    if (!c.plain_w && kind == kBackwardWeights) c.reorder_w.execute(queue(), {{DNNL_ARG_FROM, inner}, {DNNL_ARG_TO, user}});
    queue().wait();
}

}  // namespace

extern "C" {

// y (n, oh, ow, co) of x (n, h, w, ci), weights (co, ci, kh, kw) and bias (co).
void ddpm_conv(const float* x, const float* weight, const float* bias, float* y, long n, long ci, long h, long w, long co, long kh,
               long kw, long stride, long top, long left, long bottom, long right) {
    if (winograd_pays(n, ci, h, w, co, kh, kw, stride, top, left, bottom, right))
        winograd_products(x, weight, bias, y, n, ci, h, w, co, false);
    else
        convolve({kForward, n, ci, h, w, co, kh, kw, stride, top, left, bottom, right}, x, weight, bias, y);
}

void ddpm_conv_backward_data(const float* gy, const float* weight, float* gx, long n, long ci, long h, long w, long co, long kh, long kw,
                             long stride, long top, long left, long bottom, long right) {
    if (winograd_pays(n, ci, h, w, co, kh, kw, stride, top, left, bottom, right))
        winograd_products(gy, weight, nullptr, gx, n, co, h, w, ci, true);
    else
        convolve({kBackwardData, n, ci, h, w, co, kh, kw, stride, top, left, bottom, right}, gx, weight, nullptr, gy);
}

void ddpm_conv_backward_weights(const float* x, const float* gy, float* gweight, float* gbias, long n, long ci, long h, long w, long co,
                                long kh, long kw, long stride, long top, long left, long bottom, long right) {
    if (winograd_pays(n, ci, h, w, co, kh, kw, stride, top, left, bottom, right))
        winograd_weights(x, gy, gweight, gbias, n, ci, h, w, co);
    else
        convolve({kBackwardWeights, n, ci, h, w, co, kh, kw, stride, top, left, bottom, right}, x, gweight, gbias, gy);
}

}  // extern "C"
