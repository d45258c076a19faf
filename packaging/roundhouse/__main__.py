# SPDX-License-Identifier: Apache-2.0
from roundhouse import main

main()
