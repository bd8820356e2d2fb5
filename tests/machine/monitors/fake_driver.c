/* A stand-in for libcuda.so.1, as far as it is asked for what there is; scripted by environment variables:
 *
 * FAKE_DRIVER_INIT=code   cuInit fails
 * FAKE_DRIVER_COUNT=n     GPUs (default 1); none where CUDA_VISIBLE_DEVICES was empty when it started
 * FAKE_DRIVER_CUDA=n      newest CUDA it knows, times 1000 (default 13000)
 * FAKE_DRIVER_CAPABILITY=n  compute capability times 10 (default 90)
 * FAKE_DRIVER_SAYS=1      cuInit tells on stderr which device it was given
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int number(const char *name, int otherwise) { return getenv(name) ? atoi(getenv(name)) : otherwise; }

static int hidden(void) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    return visible && !*visible;
}

int cuInit(unsigned int flags) {
    (void)flags;
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (number("FAKE_DRIVER_SAYS", 0)) fprintf(stderr, "cuInit sees %s\n", visible ? visible : "everything");
    return hidden() ? 100 : number("FAKE_DRIVER_INIT", 0);
}
int cuDeviceGetCount(int *count) { *count = hidden() ? 0 : number("FAKE_DRIVER_COUNT", 1); return 0; }
int cuDriverGetVersion(int *version) { *version = number("FAKE_DRIVER_CUDA", 13000); return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    int capability = number("FAKE_DRIVER_CAPABILITY", 90);
    (void)device; *value = attribute == 75 ? capability / 10 : capability % 10; return 0;
}
int cuDeviceGetName(char *name, int size, int device) { (void)device; snprintf(name, size, "Fake GPU"); return 0; }
int cuDeviceGetUuid_v2(char *uuid, int device) { memset(uuid, device, 16); return 0; }
