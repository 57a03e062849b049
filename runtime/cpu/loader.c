/* Layout: one mapping of three parts, each starting on a page: code (read, execute), constants (read), variables
 * (read, write).  All are writable while relocations are applied; protection comes last, before anyone can run it. */
#include "runtime/cpu/loader.h"

#include <elf.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/base/memory.h"
#include "runtime/cpu/reloc.h"

#if defined(__x86_64__)
enum { HOST_MACHINE = EM_X86_64 };
#elif defined(__aarch64__)
enum { HOST_MACHINE = EM_AARCH64 };
#endif

/* Far less than the reach of 32-bit distances, far more than any plan. */
static const size_t object_max_bytes = (size_t)1 << 28;
enum { SYMBOL_MAX_CHARS = 1000 };

typedef enum ObjectPart { PART_CODE, PART_CONST, PART_VAR, PART_COUNT, PART_NONE } ObjectPart;

typedef struct Section {
  Elf64_Shdr h;
  ObjectPart part;     /* PART_NONE: not loaded */
  size_t offset; /* in the mapping */
} Section;

typedef struct Global {
  const char *name;
  void *address;
} Global;

struct Object {
  Arena *arena;
  uint8_t *base;
  size_t bytes; /* of the mapping; 0 when there is none */
  size_t part_begin[PART_COUNT + 1];
  Global *globals; /* by name */
  int n_globals, cap_globals;
};

typedef struct Loader {
  Object *o;
  const uint8_t *bytes;
  size_t n;
  Section *sections;
  size_t n_sections;
  Elf64_Sym *symbols;
  size_t n_symbols, symtab; /* symtab: the section's index, 0 when there is none */
  const char *names;
  size_t names_bytes;
  bool ok;
  Error *err;
} Loader;

#define FAIL(l, ...) error_set((l)->err, ERROR_FORMAT, "object: " __VA_ARGS__)

static bool in_file(const Loader *l, uint64_t offset, uint64_t bytes) {
  return offset <= l->n && bytes <= l->n - offset;
}

static bool check_header(Loader *l, Elf64_Ehdr *h) {
  if (l->n < sizeof *h || memcmp(l->bytes, ELFMAG, SELFMAG)) return FAIL(l, "this is not an ELF file");
  memcpy(h, l->bytes, sizeof *h);
  if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_ident[EI_DATA] != ELFDATA2LSB || h->e_version != EV_CURRENT)
    return FAIL(l, "this is not a 64-bit little-endian ELF file of version 1");
  if (h->e_machine != HOST_MACHINE) {
    const char *name = reloc_machine_name(h->e_machine);
    return FAIL(l, "it is for %s (ELF machine %u), this machine is %s", name ? name : "another machine",
                (unsigned)h->e_machine, reloc_machine_name(HOST_MACHINE));
  }
  if (h->e_type != ET_REL) return FAIL(l, "ELF type %u is not a relocatable object", (unsigned)h->e_type);
  return true;
}

static bool read_section_table(Loader *l) {
  Elf64_Ehdr h;
  if (!check_header(l, &h)) return false;
  if (h.e_shentsize != sizeof(Elf64_Shdr)) return FAIL(l, "section headers of %u bytes", (unsigned)h.e_shentsize);
  if (h.e_shnum == 0 || h.e_shnum >= SHN_LORESERVE) return FAIL(l, "%u sections", (unsigned)h.e_shnum);
  if (!in_file(l, h.e_shoff, (uint64_t)h.e_shnum * sizeof(Elf64_Shdr)))
    return FAIL(l, "truncated: the section headers lie beyond its %zu bytes", l->n);
  l->n_sections = h.e_shnum;
  l->sections = ARENA_ARRAY(l->o->arena, Section, l->n_sections);
  for (size_t i = 0; i < l->n_sections; i++) {
    Section *s = &l->sections[i];
    memcpy(&s->h, l->bytes + h.e_shoff + i * sizeof s->h, sizeof s->h);
    s->part = PART_NONE;
    if (s->h.sh_type != SHT_NULL && s->h.sh_type != SHT_NOBITS && !in_file(l, s->h.sh_offset, s->h.sh_size))
      return FAIL(l, "truncated: section %zu lies beyond its %zu bytes", i, l->n);
  }
  return true;
}

/* Which part a section that takes memory goes to. */
static bool section_choose_part(Loader *l, size_t i) {
  Section *s = &l->sections[i];
  uint64_t flags = s->h.sh_flags, align = s->h.sh_addralign;
  if (flags & (SHF_TLS | SHF_COMPRESSED)) return FAIL(l, "section %zu is thread-local or compressed", i);
  if ((flags & SHF_WRITE) && (flags & SHF_EXECINSTR)) return FAIL(l, "section %zu is writable and executable", i);
  if (s->h.sh_type == SHT_INIT_ARRAY || s->h.sh_type == SHT_FINI_ARRAY || s->h.sh_type == SHT_PREINIT_ARRAY)
    return FAIL(l, "section %zu holds constructors, which are not run", i);
  if (align & (align - 1)) return FAIL(l, "section %zu is aligned to %llu", i, (unsigned long long)align);
  if (align > 4096) return FAIL(l, "section %zu is aligned to more than a page", i);
  s->part = (flags & SHF_EXECINSTR) ? PART_CODE : (flags & SHF_WRITE) ? PART_VAR : PART_CONST;
  return true;
}

static size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

/* Sizes stay below object_max_bytes at every step, so nothing here overflows. */
static bool place_sections(Loader *l) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE), at = 0;
  for (size_t i = 0; i < l->n_sections; i++)
    if ((l->sections[i].h.sh_flags & SHF_ALLOC) && l->sections[i].h.sh_type != SHT_NULL && !section_choose_part(l, i))
      return false;
  for (int part = 0; part < PART_COUNT; part++) {
    l->o->part_begin[part] = at = round_up(at, page);
    for (size_t i = 0; i < l->n_sections; i++) {
      Section *s = &l->sections[i];
      if (s->part != (ObjectPart)part) continue;
      at = round_up(at, s->h.sh_addralign ? s->h.sh_addralign : 1);
      if (s->h.sh_size > object_max_bytes - at)
        return FAIL(l, "its sections need more than %zu bytes", object_max_bytes);
      s->offset = at;
      at += s->h.sh_size;
      if (at > object_max_bytes - 2 * page) return FAIL(l, "its sections need more than %zu bytes", object_max_bytes);
    }
  }
  l->o->bytes = l->o->part_begin[PART_COUNT] = round_up(at, page);
  return true;
}

static bool map_sections(Loader *l) {
  Object *o = l->o;
  if (!o->bytes) return true;
  void *base = mmap(NULL, o->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) {
    size_t bytes = o->bytes;
    o->bytes = 0;
    return error_set(l->err, ERROR_MEMORY, "object: cannot map %zu bytes: %s", bytes, strerror(errno));
  }
  o->base = base;
  for (size_t i = 0; i < l->n_sections; i++) {
    const Section *s = &l->sections[i];
    if (s->part != PART_NONE && s->h.sh_type != SHT_NOBITS && s->h.sh_size)
      memcpy(o->base + s->offset, l->bytes + s->h.sh_offset, s->h.sh_size);
  }
  return true;
}

static bool read_names(Loader *l, const Section *table) {
  if (table->h.sh_link >= l->n_sections || l->sections[table->h.sh_link].h.sh_type != SHT_STRTAB)
    return FAIL(l, "the symbol table names no string table");
  const Elf64_Shdr *h = &l->sections[table->h.sh_link].h;
  l->names = (const char *)l->bytes + h->sh_offset;
  l->names_bytes = h->sh_size;
  if (l->names_bytes == 0 || l->names[l->names_bytes - 1]) return FAIL(l, "its string table does not end in NUL");
  return true;
}

static bool read_symbols(Loader *l) {
  for (size_t i = 0; i < l->n_sections; i++) {
    if (l->sections[i].h.sh_type != SHT_SYMTAB) continue;
    if (l->symtab) return FAIL(l, "two symbol tables");
    l->symtab = i;
  }
  if (!l->symtab) return true;
  const Section *s = &l->sections[l->symtab];
  if (s->h.sh_entsize != sizeof(Elf64_Sym) || s->h.sh_size % sizeof(Elf64_Sym))
    return FAIL(l, "symbols of %llu bytes", (unsigned long long)s->h.sh_entsize);
  if (!read_names(l, s)) return false;
  l->n_symbols = s->h.sh_size / sizeof(Elf64_Sym);
  l->symbols = arena_copy(l->o->arena, l->bytes + s->h.sh_offset, s->h.sh_size);
  for (size_t i = 0; i < l->n_symbols; i++)
    if (l->symbols[i].st_name >= l->names_bytes) return FAIL(l, "the name of symbol %zu is out of bounds", i);
    else if (strnlen(l->names + l->symbols[i].st_name, SYMBOL_MAX_CHARS) == SYMBOL_MAX_CHARS)
      return FAIL(l, "the name of symbol %zu has more than %d characters", i, SYMBOL_MAX_CHARS - 1);
  return true;
}

static const char *symbol_name(const Loader *l, const Elf64_Sym *y) {
  const char *name = l->names + y->st_name;
  if (*name || ELF64_ST_TYPE(y->st_info) != STT_SECTION) return name;
  return "(a section)";
}

/* The address of symbol i < n_symbols, or why it has none. */
static bool symbol_resolve(Loader *l, size_t i, uint64_t *out) {
  const Elf64_Sym *y = &l->symbols[i];
  const char *name = symbol_name(l, y);
  int type = ELF64_ST_TYPE(y->st_info);
  if (type == STT_TLS || type == STT_GNU_IFUNC) return FAIL(l, "symbol '%.200s' is of type %d", name, type);
  if (y->st_shndx == SHN_UNDEF) return FAIL(l, "symbol '%.200s' is undefined; objects must be self-contained", name);
  if (y->st_shndx >= l->n_sections) return FAIL(l, "symbol '%.200s' lies in no section", name);
  const Section *s = &l->sections[y->st_shndx];
  if (s->part == PART_NONE) return FAIL(l, "symbol '%.200s' lies in a section that is not loaded", name);
  if (y->st_value > s->h.sh_size) return FAIL(l, "symbol '%.200s' lies beyond its section", name);
  *out = (uint64_t)(uintptr_t)l->o->base + s->offset + y->st_value;
  return true;
}

static bool relocate_one(Loader *l, const Section *into, const Elf64_Rela *r) {
  uint64_t symbol, type = ELF64_R_TYPE(r->r_info);
  int width = reloc_width(HOST_MACHINE, (uint32_t)type);
  if (width == 0) return true;
  if (ELF64_R_SYM(r->r_info) >= l->n_symbols) return FAIL(l, "a relocation names no symbol");
  if (width < 0)
    return FAIL(l, "symbol '%.200s': relocations of type %llu are not supported (data must be internal or hidden)",
                symbol_name(l, &l->symbols[ELF64_R_SYM(r->r_info)]), (unsigned long long)type);
  if (r->r_offset > into->h.sh_size || (uint64_t)width > into->h.sh_size - r->r_offset)
    return FAIL(l, "a relocation lies beyond its section");
  if (!symbol_resolve(l, ELF64_R_SYM(r->r_info), &symbol)) return false;
  uint8_t *at = l->o->base + into->offset + r->r_offset;
  if (reloc_apply(HOST_MACHINE, (uint32_t)type, at, (uint64_t)(uintptr_t)at, symbol + (uint64_t)r->r_addend, l->err))
    return true;
  return error_prefix(l->err, "object: symbol '%.200s'", symbol_name(l, &l->symbols[ELF64_R_SYM(r->r_info)]));
}

static bool relocate_section(Loader *l, const Section *s) {
  const Section *into = &l->sections[s->h.sh_info];
  if (s->h.sh_type == SHT_REL) return FAIL(l, "relocations without addends are not supported");
  if (into->h.sh_type == SHT_NOBITS) return FAIL(l, "relocations for a section without contents");
  if (s->h.sh_entsize != sizeof(Elf64_Rela) || s->h.sh_size % sizeof(Elf64_Rela))
    return FAIL(l, "relocations of %llu bytes", (unsigned long long)s->h.sh_entsize);
  if (!l->symtab || s->h.sh_link != l->symtab) return FAIL(l, "relocations without a symbol table");
  for (uint64_t at = 0; at < s->h.sh_size; at += sizeof(Elf64_Rela)) {
    Elf64_Rela r;
    memcpy(&r, l->bytes + s->h.sh_offset + at, sizeof r);
    if (!relocate_one(l, into, &r)) return false;
  }
  return true;
}

static bool relocate_sections(Loader *l) {
  uint64_t total = 0; /* sections that share their bytes would make the work quadratic */
  for (size_t i = 0; i < l->n_sections; i++) {
    const Section *s = &l->sections[i];
    if (s->h.sh_type != SHT_RELA && s->h.sh_type != SHT_REL) continue;
    if (s->h.sh_info >= l->n_sections) return FAIL(l, "relocations for section %u", (unsigned)s->h.sh_info);
    if (l->sections[s->h.sh_info].part == PART_NONE) continue;
    total += s->h.sh_size;
    if (total > l->n) return FAIL(l, "relocation sections overlap");
    if (!relocate_section(l, s)) return false;
  }
  return true;
}

static int compare_globals(const void *a, const void *b) {
  return strcmp(((const Global *)a)->name, ((const Global *)b)->name);
}

/* Also refuses what is undefined but never used: an object that wants a symbol was not made for us. */
static bool collect_globals(Loader *l) {
  Object *o = l->o;
  for (size_t i = 1; i < l->n_symbols; i++) {
    const Elf64_Sym *y = &l->symbols[i];
    uint64_t address;
    if (ELF64_ST_BIND(y->st_info) == STB_LOCAL || y->st_shndx == SHN_ABS) continue;
    if (!symbol_resolve(l, i, &address)) return false;
    Global g = {arena_strdup(o->arena, symbol_name(l, y)), (void *)(uintptr_t)address};
    ARENA_PUSH(o->arena, o->globals, o->n_globals, o->cap_globals, g);
  }
  if (o->n_globals) qsort(o->globals, (size_t)o->n_globals, sizeof *o->globals, compare_globals);
  for (int i = 1; i < o->n_globals; i++)
    if (!strcmp(o->globals[i - 1].name, o->globals[i].name))
      return FAIL(l, "symbol '%.200s' is defined twice", o->globals[i].name);
  return true;
}

static bool protect_parts(Loader *l) {
  static const int modes[PART_COUNT] = {PROT_READ | PROT_EXEC, PROT_READ, PROT_READ | PROT_WRITE};
  Object *o = l->o;
  for (int part = 0; o->bytes && part < PART_COUNT; part++) {
    uint8_t *begin = o->base + o->part_begin[part], *end = o->base + o->part_begin[part + 1];
    if (begin == end) continue;
    if (mprotect(begin, (size_t)(end - begin), modes[part]) < 0)
      return error_set(l->err, ERROR_DEVICE, "object: cannot protect its pages: %s", strerror(errno));
    if (part == PART_CODE) __builtin___clear_cache((char *)begin, (char *)end);
  }
  return true;
}

static void load(void *ctx) {
  Loader *l = ctx;
  l->ok = read_section_table(l) && place_sections(l) && read_symbols(l) && map_sections(l) && collect_globals(l) &&
          relocate_sections(l) && protect_parts(l);
}

Object *object_load(const void *bytes, size_t n, Error *err) {
  Object *o = mem_alloc(sizeof *o);
  if (!o || !(o->arena = arena_new())) {
    mem_free(o);
    error_set(err, ERROR_MEMORY, "object: out of memory");
    return NULL;
  }
  Loader l = {.o = o, .bytes = bytes, .n = n, .err = err};
  if (arena_protect(o->arena, load, &l, err) && l.ok) return o;
  object_free(o);
  return NULL;
}

void *object_symbol(const Object *o, const char *name) {
  Global wanted = {.name = name}, *g = NULL;
  if (o->n_globals) g = bsearch(&wanted, o->globals, (size_t)o->n_globals, sizeof *o->globals, compare_globals);
  return g ? g->address : NULL;
}

void object_free(Object *o) {
  if (!o) return;
  if (o->bytes && o->base) munmap(o->base, o->bytes);
  arena_free(o->arena);
  mem_free(o);
}
