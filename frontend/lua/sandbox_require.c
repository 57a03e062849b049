/* Model files: reading them, and `require`, which finds NAME.lua beside the model and in the shipped folder, nowhere
 * else: names cannot climb, and what a link leads to must lie inside the folder. */
#include "frontend/lua/sandbox.h"

#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/base/file.h"

enum { MAX_FILE_BYTES = 4 << 20 };
static const char loaded_key[] = "nuwa.loaded";

/* ---- reading ---- */

/* Where Lua begins: behind a byte-order mark, and at the end of a first line that begins with #, which is for the system
 * (the line still counts). */
static const char *skip_head(const char *text, size_t *len) {
  const char *at = text, *end = text + *len;
  if (*len >= 3 && memcmp(at, "\xef\xbb\xbf", 3) == 0) at += 3;
  if (at < end && *at == '#')
    while (at < end && *at != '\n') at++;
  *len = (size_t)(end - at);
  return at;
}

static bool read_checked(const char *path, char **out_text, size_t *out_len, Error *err) {
  struct stat st;
  if (stat(path, &st) == 0) {
    if (!S_ISREG(st.st_mode)) return error_set(err, ERROR_FORMAT, "%s: not a plain file", path);
    if (st.st_size > MAX_FILE_BYTES)
      return error_set(err, ERROR_FORMAT, "%s: larger than %d MiB, which no model file is", path,
                       MAX_FILE_BYTES >> 20);
  }
  *out_text = file_read(path, out_len, err);
  return *out_text != NULL;
}

/* A copy on the heap, with a NUL behind it; NULL: no memory. */
static char *copy_text(const char *text, size_t len) {
  char *copy = mem_alloc(len + 1);
  if (copy && len) memcpy(copy, text, len);
  return copy;
}

/* The file's text, on the heap. */
static bool read_source(const Sandbox *sb, const char *path, const char *name, char **out_text, size_t *out_len,
                        Error *err) {
  if (!sb->source) return read_checked(path, out_text, out_len, err);
  const SourceFile *f = source_find(sb->source, name);
  if (!f) return error_set(err, ERROR_FORMAT, "%s: the source that came with the weights has no such file", path);
  *out_len = f->len;
  *out_text = copy_text(f->text, f->len);
  return *out_text || error_set(err, ERROR_MEMORY, "out of memory");
}

/* Keeps what was read, for those who save the model. */
static bool keep_source(Sandbox *sb, const char *name, const char *text, size_t len, Error *err) {
  if (source_find(&(SourceMap){sb->read, sb->n_read}, name)) return true;
  SourceFile *grown = mem_realloc(sb->read, sizeof *grown * (size_t)(sb->n_read + 1));
  if (grown) sb->read = grown;
  char *own_name = grown ? copy_text(name, strlen(name)) : NULL, *own_text = own_name ? copy_text(text, len) : NULL;
  if (!own_text) {
    mem_free(own_name);
    return error_set(err, ERROR_MEMORY, "out of memory");
  }
  sb->read[sb->n_read++] = (SourceFile){own_name, own_text, len};
  return true;
}

void sandbox_load_file(lua_State *L, const char *path, const char *name) {
  char *text = NULL;
  size_t len = 0;
  Error err = {0};
  lua_pushfstring(L, "@%s", path);
  bool ok = read_source(sandbox_of(L), path, name, &text, &len, &err) &&
            keep_source(sandbox_of(L), name, text, len, &err);
  if (!ok) {
    mem_free(text);
    if (err.code == ERROR_MEMORY) sandbox_exhaust(L, ERROR_MEMORY, "%s", err.text);
    lua_pushstring(L, err.text);
    lua_error(L);
  }
  const char *begin = skip_head(text, &len);
  if (len && *begin == LUA_SIGNATURE[0]) {
    mem_free(text);
    luaL_error(L, "%s: compiled Lua is not accepted, only text", path);
  }
  int status = luaL_loadbufferx(L, begin, len, lua_tostring(L, -1), "t");
  mem_free(text);
  lua_remove(L, -2);
  if (status == LUA_OK) return;
  if (status != LUA_ERRMEM) {
    const char *said = lua_tostring(L, -1);
    if (!sandbox_push_whole_name(L, said, path) && !strchr(said, ':')) lua_pushfstring(L, "%s: %s", path, said);
  }
  if (status == LUA_ERRMEM)
    sandbox_exhaust(L, sandbox_of(L)->memory_refused ? ERROR_LIMIT : ERROR_MEMORY, "%s: out of memory while reading",
                    path);
  lua_error(L);
}

/* ---- require ---- */

/* Letters, digits, _ and - in parts that dots or slashes separate. */
static bool is_sound_name(const char *name, size_t len) {
  bool in_part = false;
  for (size_t i = 0; i < len; i++) {
    char c = name[i];
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    if (!letter && ((c != '.' && c != '/') || !in_part)) return false;
    in_part = letter;
  }
  return in_part;
}

typedef enum FoundSource { FOUND_NOT, FOUND, FOUND_OUTSIDE } FoundSource;

/* Pushes the path of the file when it is there and inside of the folder. */
static FoundSource find_in(lua_State *L, const char *folder, const char *file) {
  char root[PATH_MAX], real[PATH_MAX];
  lua_pushfstring(L, *folder ? "%s/%s.lua" : "%s%s.lua", folder, file);
  if (!realpath(*folder ? folder : ".", root) || !realpath(lua_tostring(L, -1), real)) {
    lua_pop(L, 1);
    return FOUND_NOT;
  }
  size_t len = strlen(root);
  bool inside = strcmp(root, "/") == 0 || (strncmp(root, real, len) == 0 && real[len] == '/');
  return inside ? FOUND : FOUND_OUTSIDE;
}

static int find_in_source(lua_State *L, const Sandbox *sb, const char *file) {
  if (!source_find(sb->source, lua_pushfstring(L, "%s.lua", file)))
    return luaL_error(L, "require: there is no %s.lua in the source that came with the weights", file);
  lua_pushfstring(L, "%s/%s.lua", sb->model_dir, file);
  return 1;
}

/* Pushes the name with slashes, the file's name among sources, and at last its path. */
static int find_file(lua_State *L, const char *name) {
  Sandbox *sb = sandbox_of(L);
  luaL_gsub(L, name, ".", "/");
  const char *file = lua_tostring(L, -1);
  lua_pushfstring(L, "%s.lua", file);
  if (sb->source) return find_in_source(L, sb, file);
  const char *const folders[] = {sb->model_dir ? sb->model_dir : "", sb->models_dir};
  for (int i = 0; i < COUNT_OF(folders); i++) {
    if (!folders[i]) continue;
    FoundSource found = find_in(L, folders[i], file);
    if (found == FOUND) return 1;
    if (found == FOUND_OUTSIDE)
      return luaL_error(L, "require: %s is a link that leads out of its folder", lua_tostring(L, -1));
  }
  return luaL_error(L, "require: there is no %s.lua beside the model%s%s", file, sb->models_dir ? " or in " : "",
                    sb->models_dir ? sb->models_dir : "");
}

/* A function of a shared file, called through C. */
static int call_through(lua_State *L) {
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  return lua_gettop(L);
}

void sandbox_wrap_functions(lua_State *L) {
  if (!lua_istable(L, -1)) return;
  for (lua_pushnil(L); lua_next(L, -2);) {
    if (lua_isfunction(L, -1) && !lua_iscfunction(L, -1)) {
      lua_pushvalue(L, -2);
      lua_pushvalue(L, -2);
      lua_pushcclosure(L, call_through, 1);
      lua_rawset(L, -5); /* a field that exists: the traversal stays valid */
    }
    lua_pop(L, 1);
  }
}

static int base_require(lua_State *L) {
  size_t len;
  const char *name = luaL_checklstring(L, 1, &len);
  if (!is_sound_name(name, len))
    return luaL_error(L,
                      "require: \"%s\" is no name of a model file (letters, digits, _ and -, with dots or slashes "
                      "between; folders above cannot be reached)",
                      name);
  sandbox_charge(L, 1000);
  int file = lua_gettop(L) + 2;
  find_file(L, name);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, loaded_key);
  lua_pushvalue(L, -2);
  int kind = lua_rawget(L, -2);
  if (kind == LUA_TLIGHTUSERDATA)
    return luaL_error(L, "require: %s requires itself, or failed before", lua_tostring(L, -3));
  if (kind != LUA_TNIL) return 1;
  lua_pop(L, 1);
  int loaded = lua_gettop(L), path = loaded - 1;
  lua_pushvalue(L, path);
  lua_pushlightuserdata(L, L); /* being loaded */
  lua_rawset(L, loaded);
  sandbox_load_file(L, lua_tostring(L, path), lua_tostring(L, file));
  lua_call(L, 0, 1);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_pushboolean(L, true);
  }
  sandbox_wrap_functions(L);
  lua_pushvalue(L, path);
  lua_pushvalue(L, -2);
  lua_rawset(L, loaded);
  return 1;
}

void sandbox_open_require(lua_State *L) { lua_register(L, "require", base_require); }
