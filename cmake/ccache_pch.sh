#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Compiles a precompiled header with ccache. An older one beside it would answer ccache's question for what has changed,
# and so it goes first.
for argument; do
  case $argument in *.gch | *.pch) rm -f "$argument" ;; esac
done
exec ccache "$@"
