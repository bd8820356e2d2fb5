// Clipping, Adam and the averaged weights over all parameters at once, in place.
// `outputs` are the parameters, the moments, the averaged weights if there are any, and the gradients' norm.
#include "ddpm_adam_op.h"

#include "var.h"

extern "C" float ddpm_adam(long, float* const*, const float* const*, const long*, float*, float*, float*, float, float, float,
                           float, float, float, float, float);

namespace jittor {

DdpmAdamOp::DdpmAdamOp(vector<Var*>&& grads, vector<Var*>&& outputs, float64 lr, float64 beta1, float64 beta2, float64 eps, float64 correction1, float64 correction2, float64 max_norm, float64 decay)
    : grads(grads), lr(lr), beta1(beta1), beta2(beta2), eps(eps), correction1(correction1), correction2(correction2),
      max_norm(max_norm), decay(decay) {
    flags.set(NodeFlags::_cpu);
    flags.set(NodeFlags::_manual_set_vnbb);
    for (Var* output : outputs) {
        held.push_back(create_output(output->shape, output->dtype()));
        held.back()->share_with(output);
    }
}

void DdpmAdamOp::run() {
    const long count = grads.size();
    vector<float*> params;
    vector<const float*> given;
    vector<long> sizes;
    for (long i = 0; i < count; i++) {
        params.push_back(held[i]->ptr<float>());
        given.push_back(grads[i]->ptr<float>());
        sizes.push_back(held[i]->num);
    }
    float* average = (long)held.size() == count + 4 ? held[count + 2]->ptr<float>() : nullptr;
    *held.back()->ptr<float>() =
        ddpm_adam(count, params.data(), given.data(), sizes.data(), held[count]->ptr<float>(), held[count + 1]->ptr<float>(), average,
                  lr, beta1, beta2, eps, correction1, correction2, max_norm, decay);
}

}  // namespace jittor
