// A CUDA driver and runtime without a GPU: memory is the host's, kernels are accepted, counted and not run. Loaded
// before everything else (LD_PRELOAD) under the name libcuda.so.1, it stands before the real libraries, which stay
// loaded: what is not defined here is theirs, cuDNN's descriptors among it. It proves what is compiled and called, never numbers.
// Variables tell it what to be: STAND_IN_CAPABILITY=70, STAND_IN_DRIVER=12080, STAND_IN_FULL=1 (others hold its memory),
// STAND_IN_GONE_AFTER=n (it vanishes behind so many launches).
#include <dlfcn.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>

namespace {
enum { OK = 0, INVALID_VALUE = 1, NO_MEMORY = 2, INVALID_CONFIGURATION = 9, LAUNCH_FAILURE = 719, NOT_SUPPORTED = 801, NO_ENGINE = 3000 };
struct Dim { unsigned x, y, z; };
// As CUDA 13's cudaDeviceProp begins.
struct Properties {
  char name[256], uuid[16], luid[8];
  unsigned luid_mask;
  size_t total_memory, shared_per_block;
  int registers_per_block, warp_size;
  size_t pitch;
  int threads_per_block, block[3], grid[3];
  size_t constants;
  int major, minor;
  size_t texture, texture_pitch;
  int processors;
};

int setting(const char* name, int usual) { const char* text = getenv(name); return text ? atoi(text) : usual; }
int capability() { return setting("STAND_IN_CAPABILITY", 90); }
int driver() { return setting("STAND_IN_DRIVER", 13000); }

// Never taken down: kernels are unregistered when the process ends, in no order.
struct Counts {
  std::mutex lock;
  std::set<std::string> registered;
  std::set<const void*> launched;
  std::map<std::string, long> calls;
  long launches = 0, refused = 0;
};
Counts& counts() { static Counts* all = new Counts; return *all; }
void count(const std::string& what) { std::lock_guard<std::mutex> hold(counts().lock); counts().calls[what]++; }

// Whether it is still there: else whatever is asked of it fails as the driver has it.
int there() {
  static const int last = setting("STAND_IN_GONE_AFTER", -1);
  return last >= 0 && counts().launches > last ? LAUNCH_FAILURE : OK;
}

int launch(const void* kernel, Dim grid, Dim block, size_t shared) {
  std::lock_guard<std::mutex> hold(counts().lock);
  counts().launches++;
  if (there() != OK) return LAUNCH_FAILURE;
  counts().launched.insert(kernel);
  const bool fits = grid.x && grid.y && grid.z && grid.x < 1u << 31 && grid.y < 65536 && grid.z < 65536 && block.x &&
                    block.y && block.z && block.z <= 64 && size_t(block.x) * block.y * block.z <= 1024 && shared <= 101376;
  counts().refused += !fits;
  return fits ? OK : INVALID_CONFIGURATION;
}

int make(void** handle) { *handle = reinterpret_cast<void*>(0x40); return OK; }
int host(void** memory, size_t bytes) {
  // Zeros: what no kernel wrote is always the same.
  if (posix_memalign(memory, 512, bytes ? bytes : 1)) return NO_MEMORY;
  memset(*memory, 0, bytes);
  return OK;
}

int on_device(void** memory, size_t bytes) {
  static const bool full = setting("STAND_IN_FULL", 0);
  return full ? NO_MEMORY : there() != OK ? LAUNCH_FAILURE : host(memory, bytes);
}

// What the real library says of a descriptor that is about to be used.
int convolve(const char* which, void* convolution) {
  static auto ask = reinterpret_cast<int (*)(void*, int*)>(dlsym(RTLD_DEFAULT, "cudnnGetConvolutionMathType"));
  static auto describe = reinterpret_cast<int (*)(void*, int, int*, int*, int*, int*, int*, int*)>(
      dlsym(RTLD_DEFAULT, "cudnnGetConvolutionNdDescriptor"));
  int math = -1, length, pad[3], stride[3], dilation[3], mode, type = -1;
  ask(convolution, &math);
  describe(convolution, 3, &length, pad, stride, dilation, &mode, &type);
  count(std::string("convolution ") + which + " type " + std::to_string(type) + " math " + std::to_string(math));
  return OK;
}
int workspace(size_t* bytes) { *bytes = 1024; return OK; }
// One algorithm, which works: number and status lead the record.
int found(int* number, int* records) { *number = 1; records[0] = 1; records[1] = 0; return OK; }
int product(int compute) { count("product compute " + std::to_string(compute)); return OK; }
}  // namespace

extern "C" {
// For tests: what was called, as JSON.
void stand_in_told(char* text, size_t length) {
  Counts& all = counts();
  std::lock_guard<std::mutex> hold(all.lock);
  std::string calls;
  for (auto& [what, times] : all.calls) calls += (calls.empty() ? "\"" : ", \"") + what + "\": " + std::to_string(times);
  snprintf(text, length, "{\"registered\": %zu, \"launched\": %zu, \"launches\": %ld, \"refused\": %ld, \"calls\": {%s}}",
           all.registered.size(), all.launched.size(), all.launches, all.refused, calls.c_str());
}

// Jittor has each library look among its own first, where CUDA's real ones are. A jump and no call: libraries are
// searched for where the caller says, cuDNN's beside itself.
static void* (*real_dlopen)(const char*, int);
static void* (*real_dlsym)(void*, const char*);
static void* self;
__attribute__((constructor)) static void find_real() {
  void* found = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34");
  if (!found) found = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
  real_dlsym = reinterpret_cast<void* (*)(void*, const char*)>(found);
  real_dlopen = reinterpret_cast<void* (*)(const char*, int)>(real_dlsym(RTLD_NEXT, "dlopen"));
  self = real_dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
}
void* dlopen(const char* name, int flags) { return real_dlopen(name, flags & ~RTLD_DEEPBIND); }
// What is asked of one library by name, as ctypes does, would pass by what stands before all.
void* dlsym(void* library, const char* name) {
  if (!strncmp(name, "cu", 2))
    if (void* own = real_dlsym(self, name)) return own;
  return real_dlsym(library, name);
}

// Memory.
int cudaMalloc(void** memory, size_t bytes) { return on_device(memory, bytes); }
int cudaMallocHost(void** memory, size_t bytes) { return host(memory, bytes); }
int cudaHostAlloc(void** memory, size_t bytes, unsigned) { return host(memory, bytes); }
int cudaMallocManaged(void** memory, size_t bytes, unsigned) { return on_device(memory, bytes); }
int cudaMallocAsync(void** memory, size_t bytes, void*) { return on_device(memory, bytes); }
int cudaFree(void* memory) { free(memory); return OK; }
int cudaFreeAsync(void* memory, void*) { free(memory); return OK; }
int cudaFreeHost(void* memory) { free(memory); return OK; }
int cudaHostRegister(void*, size_t, unsigned) { return OK; }
int cudaHostUnregister(void*) { return OK; }
int cudaMemcpy(void* to, const void* from, size_t bytes, int) { memmove(to, from, bytes); return there(); }
int cudaMemcpyAsync(void* to, const void* from, size_t bytes, int, void*) { memmove(to, from, bytes); return there(); }
int cudaMemcpyToSymbol(const void*, const void*, size_t, size_t, int) { return OK; }
int cudaMemset(void* memory, int value, size_t bytes) { memset(memory, value, bytes); return OK; }
int cudaMemsetAsync(void* memory, int value, size_t bytes, void*) { memset(memory, value, bytes); return OK; }
int cudaMemGetInfo(size_t* left, size_t* all) { *left = *all = size_t(8) << 30; return OK; }
int cudaDeviceGetDefaultMemPool(void** pool, int) { return make(pool); }
int cudaMemPoolGetAttribute(void*, int, void* value) { memset(value, 0, 8); return OK; }
int cudaMemPoolSetAttribute(void*, int, void*) { return OK; }
int cudaMemPoolTrimTo(void*, size_t) { return OK; }
int cudaPointerGetAttributes(void* attributes, const void*) { memset(attributes, 0, 24); return OK; }
int cudaGetSymbolAddress(void** address, const void* symbol) { *address = const_cast<void*>(symbol); return OK; }

// The device.
int cudaGetDeviceCount(int* number) { *number = 1; return OK; }
int cudaGetDevice(int* device) { *device = 0; return OK; }
int cudaSetDevice(int) { return OK; }
int cudaGetDeviceProperties(Properties* told, int) {
  memset(told, 0, sizeof *told);
  strcpy(told->name, "Stand-in GPU");
  memset(told->uuid, 7, sizeof told->uuid);
  told->total_memory = size_t(8) << 30;
  told->shared_per_block = 49152;
  told->registers_per_block = 65536;
  told->warp_size = 32;
  told->threads_per_block = told->block[0] = told->block[1] = 1024;
  told->block[2] = 64;
  told->grid[0] = 2147483647;
  told->grid[1] = told->grid[2] = 65535;
  told->major = capability() / 10;
  told->minor = capability() % 10;
  told->texture = 512;
  told->processors = 80;
  return OK;
}
int cudaDeviceGetAttribute(int* value, int attribute, int) {
  *value = attribute == 75 ? capability() / 10 : attribute == 76 ? capability() % 10 : attribute == 16 ? 80 : 1024;
  return OK;
}
int cudaDeviceGetPCIBusId(char* text, int length, int) { snprintf(text, length, "0000:01:00.0"); return OK; }
int cudaDeviceGetStreamPriorityRange(int* least, int* most) { *least = 0; *most = -5; return OK; }
int cudaDeviceCanAccessPeer(int* can, int, int) { *can = 0; return OK; }
int cudaDeviceSynchronize() { return there(); }
int cudaDeviceReset() { return OK; }
int cudaDriverGetVersion(int* version) { *version = driver(); return OK; }
int cudaRuntimeGetVersion(int* version) { *version = 13000; return OK; }
int cudaGetLastError() { return there(); }
int cudaPeekAtLastError() { return there(); }
const char* cudaGetErrorString(int error) {
  return error == NO_MEMORY ? "out of memory" : error == LAUNCH_FAILURE ? "unspecified launch failure" : "refused by the stand-in";
}
const char* cudaGetErrorName(int error) {
  return error == NO_MEMORY ? "cudaErrorMemoryAllocation" : error == LAUNCH_FAILURE ? "cudaErrorLaunchFailure" : "standIn";
}
int cudaProfilerStart() { return OK; }
int cudaProfilerStop() { return OK; }

// Streams and events.
int cudaStreamCreate(void** stream) { return make(stream); }
int cudaStreamCreateWithFlags(void** stream, unsigned) { return make(stream); }
int cudaStreamCreateWithPriority(void** stream, unsigned, int) { return make(stream); }
int cudaStreamDestroy(void*) { return OK; }
int cudaStreamSynchronize(void*) { return there(); }
int cudaStreamQuery(void*) { return OK; }
int cudaStreamWaitEvent(void*, void*, unsigned) { return OK; }
int cudaStreamGetPriority(void*, int* priority) { *priority = 0; return OK; }
int cudaStreamIsCapturing(void*, int* status) { *status = 0; return OK; }
int cudaStreamGetCaptureInfo(void*, int* status, unsigned long long* id, void*, void*, void*, size_t* number) {
  *status = 0;
  if (id) *id = 0;
  if (number) *number = 0;
  return OK;
}
int cudaThreadExchangeStreamCaptureMode(int*) { return OK; }
int cudaStreamAddCallback(void* stream, void (*call)(void*, int, void*), void* data, unsigned) {
  call(stream, OK, data);
  return OK;
}
int cudaLaunchHostFunc(void*, void (*call)(void*), void* data) { call(data); return OK; }
int cudaEventCreate(void** event) { return make(event); }
int cudaEventCreateWithFlags(void** event, unsigned) { return make(event); }
int cudaEventDestroy(void*) { return OK; }
int cudaEventRecord(void*, void*) { return OK; }
int cudaEventRecordWithFlags(void*, void*, unsigned) { return OK; }
int cudaEventSynchronize(void*) { return OK; }
int cudaEventQuery(void*) { return OK; }
int cudaEventElapsedTime(float* ms, void*, void*) { *ms = 0; return OK; }

// Kernels.
void** __cudaRegisterFatBinary(void* binary) { return static_cast<void**>(binary); }
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char*, char*, const char* name, int, void*, void*, void*, void*, int*) {
  std::lock_guard<std::mutex> hold(counts().lock);
  counts().registered.insert(name);
}
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
char __cudaInitModule(void**) { return 1; }
static thread_local struct { Dim grid, block; size_t shared; void* stream; } pushed;
unsigned __cudaPushCallConfiguration(Dim grid, Dim block, size_t shared, void* stream) {
  pushed = {grid, block, shared, stream};
  return OK;
}
int __cudaPopCallConfiguration(Dim* grid, Dim* block, size_t* shared, void** stream) {
  *grid = pushed.grid, *block = pushed.block, *shared = pushed.shared, *stream = pushed.stream;
  return OK;
}
int __cudaGetKernel(const void** kernel, const void* function) { *kernel = function; return OK; }
int __cudaLaunchKernel(const void* kernel, Dim grid, Dim block, void**, size_t shared, void*) {
  return launch(kernel, grid, block, shared);
}
int cudaLaunchKernel(const void* kernel, Dim grid, Dim block, void**, size_t shared, void*) {
  return launch(kernel, grid, block, shared);
}
int cudaLaunchKernelExC(const void* how, const void* kernel, void**) {
  struct { Dim grid, block; size_t shared; } config;
  memcpy(&config, how, sizeof config);
  return launch(kernel, config.grid, config.block, config.shared);
}
int cudaFuncGetAttributes(void* attributes, const void*) {
  // sharedSizeBytes, constSizeBytes, localSizeBytes; then maxThreadsPerBlock, numRegs.
  struct { size_t sizes[3]; int threads, registers; } told = {{0, 0, 0}, 1024, 32};
  memcpy(attributes, &told, sizeof told);
  return OK;
}
int cudaFuncSetAttribute(const void*, int, int) { return OK; }
int cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int, size_t) { *blocks = 1; return OK; }
int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int, size_t, unsigned) {
  *blocks = 1;
  return OK;
}

// The driver.
int cuInit(unsigned) { return OK; }
int cuDriverGetVersion(int* version) { *version = driver(); return OK; }
int cuDeviceGetCount(int* number) { *number = 1; return OK; }
int cuDeviceGet(int* device, int) { *device = 0; return OK; }
int cuDeviceGetName(char* text, int length, int) { snprintf(text, length, "Stand-in GPU"); return OK; }
int cuDeviceGetUuid_v2(void* uuid, int) { memset(uuid, 7, 16); return OK; }
int cuDeviceGetAttribute(int* value, int attribute, int device) { return cudaDeviceGetAttribute(value, attribute, device); }
int cuDevicePrimaryCtxGetState(int, unsigned* flags, int* active) { *flags = 0; *active = 1; return OK; }
int cuCtxGetCurrent(void** context) { return make(context); }
int cuGetErrorString(int, const char** text) { *text = "refused by the stand-in"; return OK; }
static int absent() { return NOT_SUPPORTED; }
int cudaGetDriverEntryPointByVersion(const char* name, void** address, unsigned, unsigned long long, int* status) {
  void* own = dlsym(RTLD_DEFAULT, name);
  *address = own ? own : reinterpret_cast<void*>(absent);
  if (status) *status = 0;
  return OK;
}

// cuDNN: descriptors are the real library's.
int cudnnCreate(void** handle) { return make(handle); }
int cudnnDestroy(void*) { return OK; }
int cudnnSetStream(void*, void*) { return OK; }
int cudnnDropoutGetStatesSize(void*, size_t* bytes) { return workspace(bytes); }
int cudnnSetDropoutDescriptor(void*, void*, float, void*, size_t, unsigned long long) { return OK; }
#define SIZE(name) \
  int name(void*, void*, void*, void*, void*, int, size_t* bytes) { return workspace(bytes); }
#define FIND(name) \
  int name(void*, void*, void*, void*, void*, void*, void*, void*, int, int* number, void* records, void*, size_t) { \
    return found(number, static_cast<int*>(records)); }
#define GUESS(name) \
  int name(void*, void*, void*, void*, void*, int, int* number, void* records) { \
    return found(number, static_cast<int*>(records)); }
#define CONVOLVE(name, which) \
  int name(void*, void*, void*, void*, void*, void*, void* convolution, int, void*, size_t, void*, void*, void*) { \
    return convolve(which, convolution); }
SIZE(cudnnGetConvolutionForwardWorkspaceSize)
SIZE(cudnnGetConvolutionBackwardDataWorkspaceSize)
SIZE(cudnnGetConvolutionBackwardFilterWorkspaceSize)
FIND(cudnnFindConvolutionForwardAlgorithmEx)
FIND(cudnnFindConvolutionBackwardDataAlgorithmEx)
FIND(cudnnFindConvolutionBackwardFilterAlgorithmEx)
GUESS(cudnnGetConvolutionForwardAlgorithm_v7)
GUESS(cudnnGetConvolutionBackwardDataAlgorithm_v7)
GUESS(cudnnGetConvolutionBackwardFilterAlgorithm_v7)
CONVOLVE(cudnnConvolutionForward, "forward")
CONVOLVE(cudnnConvolutionBackwardData, "by input")
CONVOLVE(cudnnConvolutionBackwardFilter, "by weight")

// What PyTorch convolves with.
int cudnnBackendCreateDescriptor(int, void**) { return NO_ENGINE; }

// cuBLAS, cuRAND, cuSPARSE, cuFFT.
int cublasCreate_v2(void** handle) { return make(handle); }
int cublasDestroy_v2(void*) { return OK; }
int cublasSetMathMode(void*, int) { return OK; }
int cublasSetStream_v2(void*, void*) { return OK; }
int cublasGemmEx(void*, int, int, int, int, int, void*, void*, int, int, void*, int, int, void*, void*, int, int, int compute,
                 int) { return product(compute); }
int cublasGemmStridedBatchedEx(void*, int, int, int, int, int, void*, void*, int, int, long long, void*, int, int, long long,
                               void*, void*, int, int, long long, int, int compute, int) { return product(compute); }
int cublasGetMathMode(void*, int* mode) { *mode = 0; return OK; }
int cublasSetWorkspace_v2(void*, void*, size_t) { return OK; }
int cublasSgemm_v2(void*, int, int, int, int, int, void*, void*, int, void*, int, void*, void*, int) { return product(68); }
int curandCreateGenerator(void** generator, int) { return make(generator); }
int curandDestroyGenerator(void*) { return OK; }
int curandSetPseudoRandomGeneratorSeed(void*, unsigned long long) { count("seed"); return OK; }
int curandSetGeneratorOffset(void*, unsigned long long) { count("offset"); return OK; }
int curandGenerateUniform(void*, float*, size_t) { count("uniform"); return OK; }
int curandGenerateNormal(void*, float*, size_t, float, float) { count("normal"); return OK; }
int cusparseCreate(void** handle) { return make(handle); }
int cusparseDestroy(void*) { return OK; }
int cufftCreate(int* plan) { *plan = 0; return OK; }
int cufftDestroy(int) { return OK; }
}
