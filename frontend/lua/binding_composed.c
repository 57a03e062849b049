/* Functions made of ops, ops.lua, whose text CMake puts into the program: they are there whatever folder models are in. */
#include "frontend/lua/binding.h"

extern const char ops_lua[];
extern const size_t ops_lua_bytes;

static int is_tensor(lua_State *L) {
  lua_pushboolean(L, bind_test_tensor(L, 1) != NULL);
  return 1;
}

/* Each is a global and a method of tensors; pow is ^ too. */
void binding_open_composed(lua_State *L) {
  int status = luaL_loadbufferx(L, ops_lua, ops_lua_bytes, "@ops.lua", "t");
  if (status == LUA_ERRMEM) sandbox_exhaust(L, ERROR_MEMORY, "out of memory");
  BUG_IF(status != LUA_OK, "%s", lua_tostring(L, -1));
  lua_pushcfunction(L, is_tensor);
  lua_call(L, 1, 1);
  sandbox_wrap_functions(L);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, "nuwa.ops");
  for (lua_pushnil(L); lua_next(L, 1);) {
    lua_pushvalue(L, -2);
    lua_pushvalue(L, -2);
    lua_rawset(L, 2);
    lua_setglobal(L, lua_tostring(L, -2));
  }
  luaL_getmetatable(L, BIND_TENSOR);
  lua_getfield(L, 1, "pow");
  lua_setfield(L, -2, "__pow");
  lua_settop(L, 0);
}
