#pragma once
#include "op.h"

namespace jittor {

// An operator of the framework's own kind, and not jt.code: for that it writes a kernel with every one of several hundred
// inputs and outputs by name, which takes 12 s in each process that starts, however often it was compiled before.
struct DdpmAdamOp : Op {
    vector<Var*> grads, held;
    float64 lr, beta1, beta2, eps, correction1, correction2, max_norm, decay;

    // @attrs(multiple_outputs,replace_outputs)
    DdpmAdamOp(vector<Var*>&& grads, vector<Var*>&& outputs, float64 lr, float64 beta1, float64 beta2, float64 eps, float64 correction1, float64 correction2, float64 max_norm, float64 decay);

    const char* name() const override { return "ddpm_adam"; }
    void run() override;
};

}  // namespace jittor
