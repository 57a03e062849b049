-- The kinds of attention against each other, encoder and decoder: the ablation of NUWA (Wu et al., 2021).
return {
  { "FF", encoder = "full", decoder = "full" },
  { "NF", encoder = "nearby", decoder = "full" },
  { "FN", encoder = "full", decoder = "nearby" },
  { "AA", encoder = "axis", decoder = "axis" },
  { "NN", encoder = "nearby", decoder = "nearby" },
}
