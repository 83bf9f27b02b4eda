// Columns for people: "NAME  SIZE  DIRTY", numbers to the right.

#ifndef PCACHEFS_TOOLS_TEXT_TABLE_H_
#define PCACHEFS_TOOLS_TEXT_TABLE_H_

#include <string>
#include <vector>

namespace pcachefs {

class TextTable {
 public:
  // A heading that begins with '>' is of a column set to the right.
  explicit TextTable(std::vector<std::string> headings);

  // As many cells as headings.
  void AddRow(std::vector<std::string> cells);

  std::string ToString() const;

 private:
  std::vector<bool> to_the_right_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace pcachefs

#endif  // PCACHEFS_TOOLS_TEXT_TABLE_H_
