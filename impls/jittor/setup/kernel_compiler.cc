// Jittor compiles the kernels that a step lacks in several threads, and each of them first writes its kernel's source.
// To find out whether a library has the kernel, it makes the library's operator on the step's own variables and takes
// it away again: it changes their lists of readers. Two kernels that read one variable, as both gradients of a
// convolution do, then change one list at once, and the process dies, now or at a later step. Here the sources are
// written one at a time; compilers, which take the time, run side by side as before.
#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstring>
#include <dlfcn.h>
#include <execinfo.h>
#include <memory>
#include <mutex>
#include <unistd.h>

#include "fused_op.h"
#include "op_compiler.h"
#include "ops/op_register.h"
#include "opt/pass_manager.h"
#include "opt/tuner_manager.h"

namespace jittor {

extern jit_op_entry_t (*do_compile_hook)(Op*);

static std::mutex writing;
static std::atomic<int> writers{0}, most_writers{0}, compilers{0}, most_compilers{0};

struct Counted {
  std::atomic<int>& now;
  Counted(std::atomic<int>& now, std::atomic<int>& most) : now(now) {
    const int mine = ++now;
    for (int seen = most; mine > seen && !most.compare_exchange_weak(seen, mine);) {
    }
  }
  ~Counted() { --now; }
};

// What Jittor's own do_compile_inner does.
static jit_op_entry_t compile(Op* op) {
  std::unique_lock<std::mutex> alone(writing);
  string source, key;
  std::unique_ptr<OpCompiler> compiler;
  {
    Counted counted(writers, most_writers);
    compiler.reset(new OpCompiler(op));
    for (auto type : op_types) type->post_pass(compiler.get());
    source = compiler->op ? TunerManager(compiler.get()).tune() : compiler->src;
    op->compile_optimize(source);
    key = op->get_jit_key(get_jk());
  }
  alone.unlock();
  Counted counted(compilers, most_compilers);
  return compiler->compile(key, source);
}

}  // namespace jittor

static const int crashes[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
// More would push what Python has said out of a log's end.
static const int most_told = 8;
static std::atomic_flag telling = ATOMIC_FLAG_INIT;

static const void* library_of(const void* place) {
  Dl_info found;
  return dladdr(place, &found) ? found.dli_fbase : nullptr;
}

// What the crashed thread was at, which Python's own handler cannot say of a thread that is not Python's (where it is
// enabled, it has spoken before); then the crash takes its course. Others that crash meanwhile wait for that.
static void tell_stack(int crash) {
  while (telling.test_and_set()) pause();
  static const char title[] = "C++ stack of the thread that crashed:\n";
  if (write(STDERR_FILENO, title, sizeof title - 1) > 0) {
    void* frames[64];
    const int depth = backtrace(frames, 64);
    const void* own = library_of((const void*)tell_stack);
    const void* system = library_of((const void*)raise);
    int first = 0;
    // Handlers, and how they were called.
    while (first < depth - 1 && (library_of(frames[first]) == own || library_of(frames[first]) == system)) first++;
    backtrace_symbols_fd(frames + first, std::min(depth - first, most_told), STDERR_FILENO);
  }
  std::signal(crash, SIG_DFL);
  raise(crash);
}

extern "C" {
void ddpm_bench_install() {
  jittor::do_compile_hook = jittor::compile;
  // The first call of it loads a library, for which a crash is no time.
  void* frame;
  backtrace(&frame, 1);
  // Jittor's handler calls exit(), which waits for all compile threads: a crash in one of them would hang the process.
  struct sigaction action;
  std::memset(&action, 0, sizeof action);
  action.sa_handler = tell_stack;
  // A crash in the handler ends the process.
  for (int crash : crashes) sigaddset(&action.sa_mask, crash);
  for (int crash : crashes) sigaction(crash, &action, nullptr);
}
int ddpm_bench_most_writers() { return jittor::most_writers; }
int ddpm_bench_most_compilers() { return jittor::most_compilers; }
}
