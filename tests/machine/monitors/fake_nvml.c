/* A stand-in for libnvidia-ml.so.1 with the C interface of nvml.h, scripted by environment variables:
 *
 * FAKE_NVML_INIT_ERROR=code    nvmlInitWithFlags fails
 * FAKE_NVML_COUNT=n            number of GPUs (default 1); their UUIDs are GPU-<index>0000000-fake
 * FAKE_NVML_KINDS=a,b          their names (default "Fake GPU"); the last one counts for the rest too
 * FAKE_NVML_MIG=index=n,       these GPUs are in MIG mode with n instances, MIG-<index><number>000000-fake
 * FAKE_NVML_USED=bytes         memory taken, of 1000 (default 600 and the index)
 * FAKE_NVML_TOTAL=bytes        memory (default 1000)
 * FAKE_NVML_ERRORS=name=code,  these functions fail with that code, e.g. nvmlDeviceGetPowerUsage=3
 * FAKE_NVML_CLOSED=index=code, these GPUs do not open, and say why
 * FAKE_NVML_VANISH_AFTER=n     every device call after the n-th says that the GPU is lost
 * FAKE_NVML_UTILISATION=a,b;c  ring buffer: the readings before the first ';' are there at the start, every filling
 *                              call uncovers the next batch; unset: no ring buffer
 * FAKE_NVML_STALE=1            the ring buffer hands out old readings again, as some drivers do
 * FAKE_NVML_VALUE_TYPE=n       type of its readings (default 1, unsigned int)
 * FAKE_NVML_ENERGY_STEP=mj     what the energy counter gains at every reading (default 1000)
 * FAKE_NVML_THROTTLE=mask      clock event reasons
 * FAKE_NVML_PIDS=p,q           compute processes
 * FAKE_NVML_BUSY=index         only this GPU has them
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, GPU_IS_LOST = 15 };

/* `instance` is the number of a MIG instance and one; 0 is the whole GPU. */
typedef struct { int index, instance; unsigned long long energy; } *Device;
typedef struct { unsigned int gpu, memory; } Utilization;
typedef struct { unsigned long long total, free, used; } Memory;
typedef union { double d; unsigned int ui; unsigned long ul; unsigned long long ull; signed long long sll; } Value;
typedef struct { unsigned long long stamp; Value value; } Sample;
typedef struct { unsigned long long reference, violation; } Violation;
typedef struct { unsigned int pid; unsigned long long used; unsigned int gpu_instance, compute_instance; } Process;

static struct { int index, instance; unsigned long long energy; } devices[8][8];
static int device_calls, batches = 1;

static long number(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 0) : otherwise;
}

static int scripted(const char *function) {
    const char *text = getenv("FAKE_NVML_ERRORS");
    size_t length = strlen(function);
    for (const char *at = text; at && *at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (!strncmp(at, function, length) && at[length] == '=') return atoi(at + length + 1);
    return SUCCESS;
}

static int listed(const char *name, unsigned int index, int otherwise) {
    for (const char *at = getenv(name); at && *at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (strtoul(at, NULL, 10) == index) return atoi(strchr(at, '=') + 1);
    return otherwise;
}

static int device_call(const char *function) {
    if (device_calls++ >= number("FAKE_NVML_VANISH_AFTER", 1L << 30)) return GPU_IS_LOST;
    return scripted(function);
}
#define DEVICE_CALL do { int code = device_call(__func__); if (code) return code; } while (0)
/* What the real library has for whole GPUs only; it is not of one mind about the error. */
#define WHOLE_GPU(code) do { if (device->instance) return code; } while (0)
#define PLAIN_CALL do { int code = scripted(__func__); if (code) return code; } while (0)

int nvmlInitWithFlags(unsigned int flags) { (void)flags; return (int)number("FAKE_NVML_INIT_ERROR", SUCCESS); }
int nvmlShutdown(void) { PLAIN_CALL; fputs("shut down\n", stderr); return SUCCESS; }
const char *nvmlErrorString(int code) { (void)code; return "Scripted Error"; }

int nvmlSystemGetDriverVersion(char *text, unsigned int size) {
    PLAIN_CALL; snprintf(text, size, "560.35.03"); return SUCCESS;
}
int nvmlSystemGetCudaDriverVersion(int *version) { PLAIN_CALL; *version = 12060; return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned int *count) {
    PLAIN_CALL; *count = (unsigned int)number("FAKE_NVML_COUNT", 1); return SUCCESS;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, Device *device) {
    PLAIN_CALL; int code = listed("FAKE_NVML_CLOSED", index, SUCCESS); if (code) return code;
    devices[index][0].index = (int)index; *device = (Device)&devices[index][0]; return SUCCESS;
}
int nvmlDeviceGetMigMode(Device device, unsigned int *current, unsigned int *pending) {
    PLAIN_CALL; int instances = listed("FAKE_NVML_MIG", device->index, -1); if (instances < 0) return NOT_SUPPORTED;
    *current = *pending = 1; return SUCCESS;
}
int nvmlDeviceGetMaxMigDeviceCount(Device device, unsigned int *count) {
    (void)device; PLAIN_CALL; *count = 7; return SUCCESS;
}
int nvmlDeviceGetMigDeviceHandleByIndex(Device device, unsigned int number, Device *instance) {
    /* With a gap where one was destroyed. */
    PLAIN_CALL; if (number == 0 || (int)number > listed("FAKE_NVML_MIG", device->index, 0)) return NOT_FOUND;
    devices[device->index][number].index = device->index; devices[device->index][number].instance = (int)number + 1;
    *instance = (Device)&devices[device->index][number]; return SUCCESS;
}
int nvmlDeviceGetGpuInstanceId(Device device, unsigned int *id) { PLAIN_CALL; *id = 6u + device->instance; return SUCCESS; }
int nvmlDeviceGetComputeInstanceId(Device device, unsigned int *id) { (void)device; PLAIN_CALL; *id = 0; return SUCCESS; }
int nvmlDeviceGetUUID(Device device, char *text, unsigned int size) {
    PLAIN_CALL;
    if (device->instance) snprintf(text, size, "MIG-%d%d000000-fake", device->index, device->instance - 1);
    else snprintf(text, size, "GPU-%d0000000-fake", device->index);
    return SUCCESS;
}
int nvmlDeviceGetName(Device device, char *text, unsigned int size) {
    PLAIN_CALL;
    const char *name = getenv("FAKE_NVML_KINDS") ? getenv("FAKE_NVML_KINDS") : "Fake GPU";
    for (int i = 0; i < device->index && strchr(name, ','); i++) name = strchr(name, ',') + 1;
    snprintf(text, size, "%.*s%s", (int)strcspn(name, ","), name, device->instance ? " MIG 1g.10gb" : "");
    return SUCCESS;
}
int nvmlDeviceGetEnforcedPowerLimit(Device device, unsigned int *mw) {
    PLAIN_CALL; WHOLE_GPU(INVALID_ARGUMENT); *mw = 700000; return SUCCESS;
}
int nvmlDeviceGetMaxClockInfo(Device device, unsigned int type, unsigned int *mhz) {
    PLAIN_CALL; WHOLE_GPU(INVALID_ARGUMENT); *mhz = 1980 + type; return SUCCESS;
}
int nvmlDeviceGetEccMode(Device device, unsigned int *current, unsigned int *pending) {
    PLAIN_CALL; WHOLE_GPU(NOT_SUPPORTED); *current = 1; *pending = 0; return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(Device device, Memory *memory) {
    DEVICE_CALL; memory->total = (unsigned long long)number("FAKE_NVML_TOTAL", 1000);
    memory->used = (unsigned long long)number("FAKE_NVML_USED", 600 + device->index);
    memory->free = memory->total - memory->used;
    return SUCCESS;
}
int nvmlDeviceGetPowerUsage(Device device, unsigned int *mw) {
    DEVICE_CALL; WHOLE_GPU(NOT_SUPPORTED); *mw = 350000 + device->index; return SUCCESS;
}
int nvmlDeviceGetClockInfo(Device device, unsigned int type, unsigned int *mhz) {
    DEVICE_CALL; WHOLE_GPU(INVALID_ARGUMENT); *mhz = type == 1 ? 1700 : type == 2 ? 2600 : 1; return SUCCESS;
}
int nvmlDeviceGetTemperature(Device device, unsigned int sensor, unsigned int *celsius) {
    DEVICE_CALL; WHOLE_GPU(INVALID_ARGUMENT); *celsius = 61 + sensor; return SUCCESS;
}
int nvmlDeviceGetTotalEnergyConsumption(Device device, unsigned long long *mj) {
    DEVICE_CALL; WHOLE_GPU(NOT_SUPPORTED); device->energy += number("FAKE_NVML_ENERGY_STEP", 1000); *mj = device->energy; return SUCCESS;
}
int nvmlDeviceGetCurrentClocksEventReasons(Device device, unsigned long long *mask) {
    DEVICE_CALL; WHOLE_GPU(NOT_SUPPORTED); *mask = (unsigned long long)number("FAKE_NVML_THROTTLE", 0); return SUCCESS;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(Device device, unsigned long long *mask) {
    DEVICE_CALL; WHOLE_GPU(NOT_SUPPORTED); *mask = 0x40; return SUCCESS;
}
int nvmlDeviceGetViolationStatus(Device device, unsigned int policy, Violation *violation) {
    DEVICE_CALL; WHOLE_GPU(NOT_SUPPORTED); violation->reference = 9; violation->violation = 5000 + policy; return SUCCESS;
}
int nvmlDeviceGetUtilizationRates(Device device, Utilization *rates) {
    DEVICE_CALL; WHOLE_GPU(NOT_SUPPORTED); rates->gpu = 37; rates->memory = 12; return SUCCESS;
}

int nvmlDeviceGetSamples(Device device, unsigned int type, unsigned long long last_seen, unsigned int *value_type,
                         unsigned int *count, Sample *samples) {
    DEVICE_CALL; WHOLE_GPU(NOT_SUPPORTED);
    const char *text = getenv("FAKE_NVML_UTILISATION");
    if (!text || type != 1) return NOT_SUPPORTED;
    unsigned int found = 0, batch = 1;
    if (number("FAKE_NVML_STALE", 0)) last_seen = 0;
    for (unsigned long long stamp = 1; *text && batch <= (unsigned int)batches; stamp++) {
        char *end;
        unsigned int value = (unsigned int)strtoul(text, &end, 10);
        if (stamp > last_seen) {
            if (samples) { samples[found].stamp = stamp; samples[found].value.ui = value; }
            found++;
        }
        batch += *end == ';';
        text = *end ? end + 1 : end;
    }
    *value_type = (unsigned int)number("FAKE_NVML_VALUE_TYPE", 1);
    *count = found;
    if (samples || !found) batches++;
    return found ? SUCCESS : NOT_FOUND;
}

int nvmlDeviceGetComputeRunningProcesses_v3(Device device, unsigned int *count, Process *processes) {
    DEVICE_CALL;
    const char *text = number("FAKE_NVML_BUSY", device->index) == device->index ? getenv("FAKE_NVML_PIDS") : NULL;
    unsigned int found = 0;
    for (; text && *text; found++) {
        char *end;
        unsigned int pid = (unsigned int)strtoul(text, &end, 10);
        if (processes && found < *count) processes[found] = (Process){pid, 1 << 20, 0, 0};
        text = *end ? end + 1 : end;
    }
    int fits = processes ? found <= *count : !found;
    *count = found;
    return fits ? SUCCESS : INSUFFICIENT_SIZE;
}
