#include "client/cli/figures.h"

#include <gtest/gtest.h>

namespace kvattend::cli {
namespace {

// The only figure of one group with one member.
Figure CompareOne(const char* expected, FoundFigure found) {
  const auto figures =
      CompareFigures(Json::parse(expected), {{{"group", "name"}, std::move(found)}});
  EXPECT_EQ(figures.size(), 1u);
  return figures.front();
}

TEST(FiguresTest, WholeNumbersAreExactBeyondDoubles) {
  // As doubles these two would be the same.
  const char* expected = R"({"group": {"name": -4466983682215599831}})";
  const Figure same = CompareOne(expected, {std::vector<int64_t>{-4466983682215599831}});
  EXPECT_TRUE(same.ok);
  EXPECT_EQ(same.expected, "-4466983682215599831");
  EXPECT_EQ(same.found, "-4466983682215599831");
  EXPECT_FALSE(CompareOne(expected, {std::vector<int64_t>{-4466983682215599832}}).ok);
  EXPECT_FALSE(CompareOne(R"({"group": {"name": 7.0}})", {std::vector<int64_t>{7}}).ok);
}

TEST(FiguresTest, ListsAreComparedWhole) {
  const char* expected = R"({"group": {"name": [0, 12, 20]}})";
  EXPECT_TRUE(CompareOne(expected, {std::vector<int64_t>{0, 12, 20}}).ok);
  EXPECT_FALSE(CompareOne(expected, {std::vector<int64_t>{0, 12, 21}}).ok);
  EXPECT_FALSE(CompareOne(expected, {std::vector<int64_t>{0, 12}}).ok);
  EXPECT_FALSE(CompareOne(expected, {std::vector<int64_t>{0, 12, 20, 28}}).ok);
}

TEST(FiguresTest, SharesToFourDigits) {
  const char* expected = R"({"group": {"name": 0.4460}})";
  const Figure close = CompareOne(expected, {std::vector<double>{0.44595}, Precision::kShare});
  EXPECT_TRUE(close.ok);
  EXPECT_EQ(close.expected, "44.60 %");
  EXPECT_FALSE(CompareOne(expected, {std::vector<double>{0.4461}, Precision::kShare}).ok);
}

TEST(FiguresTest, HalfPatterns) {
  const char* expected = R"({"group": {"name": [0.194, -0.05386]}})";
  // The patterns that print so, and a neighbour.
  EXPECT_TRUE(CompareOne(expected, {std::vector<double>{0.1939697265625, -0.053863525390625},
                                    Precision::kHalfPattern})
                  .ok);
  EXPECT_FALSE(CompareOne(expected, {std::vector<double>{0.194091796875, -0.053863525390625},
                                     Precision::kHalfPattern})
                   .ok);
}

TEST(FiguresTest, HalfArithmeticAllowsOneUnit) {
  // The unit between 8 and 16 is 2^-7.
  const char* expected = R"({"group": {"name": -8.6250}})";
  const auto check = [&](double found) {
    return CompareOne(expected, {std::vector<double>{found}, Precision::kHalfArithmetic}).ok;
  };
  EXPECT_TRUE(check(-8.6250));
  EXPECT_TRUE(check(-8.6172));
  EXPECT_TRUE(check(-8.6328));
  EXPECT_FALSE(check(-8.6090));
  EXPECT_FALSE(check(-8.6410));
  EXPECT_FALSE(check(8.6250));
  EXPECT_FALSE(CompareOne(R"({"group": {"name": 0}})",
                          {std::vector<double>{0.001}, Precision::kHalfArithmetic})
                   .ok);
}

TEST(FiguresTest, NothingGoesUnchecked) {
  const auto figures =
      CompareFigures(Json::parse(R"({"a": {"known": 1, "new": 2}, "b": {"text": "x"}})"),
                     {{{"a", "known"}, {std::vector<int64_t>{1}}},
                      {{"b", "text"}, {std::vector<double>{1.0}, Precision::kShare}},
                      {{"b", "lost"}, {std::vector<int64_t>{4}}}});
  ASSERT_EQ(figures.size(), 4u);
  EXPECT_TRUE(figures[0].ok);
  EXPECT_EQ(figures[1].name, "new");
  EXPECT_FALSE(figures[1].ok);
  EXPECT_EQ(figures[1].found, "-");
  EXPECT_EQ(figures[2].expected, "\"x\"");
  EXPECT_FALSE(figures[2].ok);
  EXPECT_EQ(figures[3].name, "lost");
  EXPECT_EQ(figures[3].expected, "-");
  EXPECT_EQ(figures[3].found, "4");
  EXPECT_FALSE(figures[3].ok);
}

}  // namespace
}  // namespace kvattend::cli
