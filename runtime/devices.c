/* The devices there are. */
#include "runtime/device.h"

const DeviceKind *device_kind(PlanDevice d) {
  static const DeviceKind *const kinds[PLAN_DEVICE_COUNT] = {[PLAN_CPU] = &cpu_device, [PLAN_CUDA] = &cuda_device};
  return kinds[d];
}
