#!/usr/bin/env bash
# The main job: all eight tasks and both inverses on held-out scenes, as one page of pictures and clips.
# ./bootstrap demo [CAPTION [PICTURE]]
set -euo pipefail
cd "$(dirname "$0")/.."
nuwa=${NUWA:-build/nuwa}
caption=${1:-a panda at the top right on a blue background}
out=${NUWA_DEMO_OUT:-out/demo}
world=textured,recolour,size=64,things=48,thing_min=24,thing_max=24,jitter=8,align=8,recolours=4
mkdir -p "$out"
page=$out/index.html
rm -f "$page" "$page.log"

# ---- what is given: held-out scenes, or the user's picture ----

scene() { $nuwa data "world:$1,$world" --held-out --first "$2" --count 1 --clips gif --maps --out "$out" >/dev/null; }
scene single 12   # a unicorn at the center on purple
scene clips 4     # a cyan snail moving right at the top on blue
picture=$out/000012.png map=$out/000012.labels.png clip=$out/000004.gif maps=$out/000004.maps
if [ $# -ge 2 ]; then
  picture=$out/given.${2##*.}
  cp -- "$2" "$picture"
fi

# ---- the page ----

escape() { sed 's/&/\&amp;/g; s/</\&lt;/g; s/>/\&gt;/g'; }
say() { printf '%s\n' "$*" >>"$page"; }
image() { say "<figure><img src=\"${1#"$out/"}\" alt=\"\"><figcaption>$(escape <<<"$2")</figcaption></figure>"; }
drawings() { for file in "$@"; do say "<img src=\"${file#"$out/"}\" alt=\"\">"; done; }
words() { say "<blockquote>$(escape <<<"$1")</blockquote>"; }
begin() { say "<section><h2>$1</h2>"; echo "== $1"; }
end() { say "</section>"; }

# nuwa ARGS..., which the page shows as a user would type it.
run() {
  printf '<pre>nuwa' >>"$page"
  printf ' %q' "$@" | sed "s|$out/||g" | escape >>"$page"
  say "</pre>"
  $nuwa "$@" >>"$page.log" 2>&1 || { tail -3 "$page.log" >&2; return 1; }
}
generate() { run generate --temperature 0.5 --count 4 "$@"; }
guided() { generate --guidance 2 "$@"; }   # where there is a condition to be guided by

cat >"$page" <<'HTML'
<!DOCTYPE html><meta charset="utf-8"><title>nuwa: eight tasks and their inverses</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; max-width: 62em; margin: 2em auto; padding: 0 1em; color: #222; }
  section { border-top: 1px solid #ddd; padding: .5em 0 1em; }
  h2 { font-size: 1.1em; } figure { display: inline-block; margin: 0 2em 0 0; vertical-align: top; }
  figcaption { color: #777; font-size: .85em; }
  img { width: 128px; image-rendering: pixelated; margin: 2px; vertical-align: top; }
  pre { background: #f4f4f4; padding: .4em .6em; overflow-x: auto; font-size: .8em; }
  blockquote { margin: .5em 0; padding-left: .8em; border-left: 3px solid #8ac; font-style: italic; }
</style>
<h1>nuwa: eight tasks and their inverses</h1>
<p>One model, trained on two cores. The scenes given are of pairs (thing, background), (thing, motion) or (thing, colour) that its
training never showed.</p>
HTML

# ---- the tasks ----

begin "Text to picture (T2I)"
words "$caption"
guided --text "$caption" -o "$out/t2i.png"
drawings "$out"/t2i-*.png
end

begin "Sketch to picture (S2I)"
image "$map" "the sketch: what each pixel shows"
guided --sketch "$map" -o "$out/s2i.png"
drawings "$out"/s2i-*.png
end

begin "Picture completed (I2I)"
image "$picture" "given: its upper half"
generate --image "$picture" --mask lower -o "$out/i2i.png"
drawings "$out"/i2i-*.png
end

begin "Picture changed by a caption (TI2I)"
changed="a guitar at the center on a purple background"
image "$picture" "given: all but the thing"
words "$changed"
guided --image "$picture" --mask thing --text "$changed" -o "$out/ti2i.png"
drawings "$out"/ti2i-*.png
end

begin "Text to clip (T2V)"
moving="a fox moving left at the top on a green background"
words "$moving"
guided --text "$moving" -o "$out/t2v.gif"
drawings "$out"/t2v-*.gif
end

begin "Sketch to clip (S2V)"
for frame in 000 002 005 007; do image "$maps/$frame.labels.png" "frame ${frame#00} of the sketch"; done
guided --sketch "$maps" -o "$out/s2v.gif"
drawings "$out"/s2v-*.gif
end

begin "Clip continued (V2V)"
image "$clip" "given: its first frame"
generate --video "$clip" --given-frames 1 -o "$out/v2v.gif"
drawings "$out"/v2v-*.gif
end

begin "Clip continued by a caption (TV2V)"
image "$clip" "given: its first frame"
other="a cyan snail shrinking at the top left on a blue background"
words "$other"
guided --video "$clip" --given-frames 1 --text "$other" -o "$out/tv2v.gif"
drawings "$out"/tv2v-*.gif
end

begin "Picture to text (I2T)"
image "$picture" "given"
run describe "$picture"
words "$(tail -1 "$page.log")"
end

begin "Clip to text (V2T)"
image "$clip" "given"
run describe "$clip"
words "$(tail -1 "$page.log")"
end

echo "the page: $page"
