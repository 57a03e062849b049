/* Build ids of loaded libraries, from their notes in memory (ELF). */
#include "codegen/emit/build_id.h"

#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/stat.h>

typedef struct NoteSearch {
  ElfW(Addr) address;
  Buffer *out;
} NoteSearch;

static bool holds(const struct dl_phdr_info *library, ElfW(Addr) address) {
  for (int i = 0; i < library->dlpi_phnum; i++) {
    const ElfW(Phdr) *p = &library->dlpi_phdr[i];
    if (p->p_type == PT_LOAD && address - (library->dlpi_addr + p->p_vaddr) < p->p_memsz) return true;
  }
  return false;
}

/* Name and description of a note are padded to 4 bytes. */
static bool print_note(const char *at, size_t bytes, Buffer *out) {
  while (bytes >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) n;
    memcpy(&n, at, sizeof n);
    size_t name = ((size_t)n.n_namesz + 3) / 4 * 4, all = sizeof n + name + ((size_t)n.n_descsz + 3) / 4 * 4;
    if (all > bytes) return false;
    if (n.n_type == NT_GNU_BUILD_ID && n.n_namesz == 4 && !memcmp(at + sizeof n, "GNU", 4)) {
      for (size_t i = 0; i < n.n_descsz; i++) buffer_printf(out, "%02x", (unsigned char)at[sizeof n + name + i]);
      return n.n_descsz > 0;
    }
    at += all;
    bytes -= all;
  }
  return false;
}

static int print_library(struct dl_phdr_info *library, size_t bytes, void *ctx) {
  const NoteSearch *s = ctx;
  if (!holds(library, s->address)) return 0;
  for (int i = 0; i < library->dlpi_phnum; i++) {
    const ElfW(Phdr) *p = &library->dlpi_phdr[i];
    if (p->p_type != PT_NOTE) continue;
    if (print_note((const char *)(library->dlpi_addr + p->p_vaddr), p->p_memsz, s->out)) return 1;
  }
  struct stat st;
  if (stat(*library->dlpi_name ? library->dlpi_name : "/proc/self/exe", &st) != 0) return 0;
  buffer_printf(s->out, "%lld bytes of %lld.%09ld", (long long)st.st_size, (long long)st.st_mtim.tv_sec,
                (long)st.st_mtim.tv_nsec);
  return 1;
}

void build_id_print(const void *function, Buffer *out) {
  NoteSearch s = {(ElfW(Addr))(uintptr_t)function, out};
  if (!dl_iterate_phdr(print_library, &s)) buffer_printf(out, "unknown");
}
