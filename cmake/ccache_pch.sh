#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Compiles a precompiled header with ccache. An older one beside it would answer ccache's question for what has changed,
# and so it goes first. CCACHE_DEPEND: what the preprocessor writes has no macros, and a header of which only these have
# changed would be taken for the old one.
for argument; do
  case $argument in *.gch | *.pch) rm -f "$argument" ;; esac
done
CCACHE_DEPEND=1 exec ccache "$@"
