// SPDX-License-Identifier: Apache-2.0
// roundhouse compare A B [--page FILE]
#include <iostream>
#include <memory>

#include "host/base/files.h"
#include "host/cli/context.h"
#include "host/report/table.h"
#include "host/run/comparison.h"
#include "host/run/report_page.h"

namespace roundhouse::cli {

void add_compare(Command program, Context&) {
  struct Options {
    std::string a, b, page;
  };
  const auto o = std::make_shared<Options>();
  Command command = program.add_command("compare", "Two runs beside each other: measures, recipes, blocks, costs");
  command.add_option("A", o->a, "The output folder of a run, or its report.json").required();
  command.add_option("B", o->b, "Another one").required();
  command.add_option("--page", o->page, "Also write it as a page with a plot").type_name("FILE");
  command.set_action([o] {
    if (!o->page.empty())
      require_kind(o->page, "page", [](const auto& path) { return read_file(path).starts_with("<!doctype html>"); });
    const Comparison comparison = compare(read_report(o->a), read_report(o->b));
    std::cout << "A: " << o->a << "\nB: " << o->b << "\n";
    for (const auto& [title, rows] : comparison.tables) std::cout << "\n" << title << "\n" << format_table(rows);
    if (o->page.empty()) return;
    write_file(o->page, comparison_page(o->a, o->b, comparison));
    std::cout << "\nPage: " << o->page << "\n";
  });
}

}  // namespace roundhouse::cli
