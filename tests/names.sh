#!/usr/bin/env bash
# Names that cross rooms (runtime/base/names.h) are written once: nothing else asks for a function, a port or metadata by
# a literal name, or compares a name with one of these.  usage: names.sh SOURCE_DIR
set -euo pipefail
cd "$1"
folders=(runtime ir passes codegen autotune frontend media train synth cli bench)
status=0
fail() { echo "$*" >&2; status=1; }

asks='nuwa_input|nuwa_output|nuwa_state|plan_find_(input|output|function|decode|state)|(model_)?find_decode|training_has_input'
asks+='|safetensors_metadata|safetensors_find'
hits=$(grep -nE "\b($asks)\([^;)\"]*\"[^\"]" -r "${folders[@]}" --include='*.c' || true)
[ -z "$hits" ] || fail "a name of names.h, or one that should be there, as a literal:"$'\n'"$hits"

values=$(sed -nE 's/^#define [A-Z0-9_]+ ([A-Z0-9_]+ )?"([^"]+)".*/\2/p' runtime/base/names.h | sort -u | paste -sd '|' | sed 's/\./\\./g')
[ "$(tr '|' '\n' <<<"$values" | wc -l)" -ge 20 ] || fail "names.h is not read as it should be: $values"
hits=$(grep -nE "\b(strcmp|strncmp|json_find)\([^;\"]*\"($values)\"|\.leaf\.name = \"($values)\"|TensorView [a-z]+ = \{\.name = \"($values)\"|\((Port|MetadataEntry|Metric)\) ?\{\"($values)\"" \
         -r "${folders[@]}" --include='*.c' | grep -v 'strcmp(until, ' || true)   # these are passes
[ -z "$hits" ] || fail "a name of names.h as a literal:"$'\n'"$hits"
exit $status
