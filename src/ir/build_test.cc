// Does each constructor infer its type and refuse what breaks a rule of docs/ops.md?
#include "ir/build.h"

#include "ir/test_run.h"

namespace ng::testing {
namespace {

const Dim kRows(8, Count::rows);

struct Inputs {
  Graph g{"g"};
  Value x = input(g, "x", {DType::f32, {kRows, 6}});
  Value line = input(g, "line", {DType::f32, {6}});
  Value ids = input(g, "ids", {DType::s32, {kRows}});
  Value matrix = input(g, "matrix", {DType::f32, {20, 6}});
  Value half = input(g, "half", {DType::f16, {20, 6}});
  Value panels = input(g, "panels", {DType::bf16, {2, 6, 16}});
  Value list = input(g, "list", {DType::s32, {kRows, {5, Count::context}}});
};

struct Refused {
  const char* rule;
  std::function<void(Inputs&)> make;
};

void expect_refused(const std::vector<Refused>& cases) {
  for (size_t i = 0; i < cases.size(); ++i) {
    Inputs in;
    const std::string message = refusal([&] { cases[i].make(in); });
    EXPECT_NE(message.find(std::string("breaks rule ") + cases[i].rule + ":"), std::string::npos)
        << "case " << i << " of " << cases[i].rule << ": " << message;
  }
}

TEST(Build, RefusesLeavesThatBreakARule) {
  expect_refused({
      {"L1",
       [](Inputs& in) {
         input(in.g, "y", {DType::f32, {1, 1, 1, 1, 1}});
       }},
      {"L2",
       [](Inputs& in) {
         input(in.g, "", {DType::f32, {}});
       }},
      {"L2",
       [](Inputs& in) {
         weight(in.g, "", {DType::f32, {}});
       }},
      {"L3",
       [](Inputs& in) {
         weight(in.g, "w", {DType::f32, {kRows}});
       }},
      {"L4",
       [](Inputs& in) {
         constant(in.g, std::vector<double>(9), {DType::f32, {9}});
       }},
      {"L4",
       [](Inputs& in) {
         constant(in.g, {1, 2}, {DType::f32, {3}});
       }},
      {"L4",
       [](Inputs& in) {
         constant(in.g, {1}, {DType::s8, {}});
       }},
      {"L5",
       [](Inputs& in) {
         iota(in.g, {DType::s32, {3}}, 1);
       }},
      {"N2",
       [](Inputs& in) {
         iota(in.g, {DType::f32, {3}}, 0);
       }},
  });
}

TEST(Build, RefusesElementsThatBreakARule) {
  expect_refused({
      {"N4", [](Inputs& in) { elementwise(in.g, Op::add, {in.x}); }},
      {"E1",
       [](Inputs& in) {
         elementwise(in.g, Op::add, {in.x, in.matrix});
       }},
      {"E2", [](Inputs& in) { elementwise(in.g, Op::exp, {in.ids}); }},
      {"E2",
       [](Inputs& in) {
         elementwise(in.g, Op::add, {in.half, in.half});
       }},
      {"E2", [](Inputs& in) { activate(in.g, in.half, ActivationKind::relu); }},
      {"E3", [](Inputs& in) { select_less(in.g, in.x, in.x, in.x, in.x); }},
      {"E3", [](Inputs& in) { select_less(in.g, in.ids, in.ids, in.x, in.x); }},
      {"E4",
       [](Inputs& in) {
         add_inferred(in.g, Node{Op::convert, {in.x}, {}, {Type{DType::bf16, {6}}}});
       }},
  });
}

TEST(Build, RefusesShapesThatBreakARule) {
  expect_refused({
      {"S1",
       [](Inputs& in) {
         broadcast(in.g, in.line, {kRows, 6}, {0});
       }},
      {"S1",
       [](Inputs& in) {
         broadcast(in.g, in.line, {kRows, 6}, {2});
       }},
      {"S1",
       [](Inputs& in) {
         broadcast(in.g, in.line, {kRows, 6}, {});
       }},
      {"S1",
       [](Inputs& in) {
         broadcast(in.g, in.x, {6, kRows}, {1, 0});
       }},
      {"S2", [](Inputs& in) { reshape(in.g, in.line, {7}); }},
      {"S2", [](Inputs& in) { reshape(in.g, in.x, {48}); }},
      {"S2",
       [](Inputs& in) {
         reshape(in.g, in.x, {2, 3, kRows});
       }},
      {"S3",
       [](Inputs& in) {
         transpose(in.g, in.x, {0, 0});
       }},
      {"S3", [](Inputs& in) { transpose(in.g, in.x, {0}); }},
  });
}

TEST(Build, RefusesPartsAndPanelsThatBreakARule) {
  expect_refused({
      {"S4",
       [](Inputs& in) {
         concatenate(in.g, {in.x, in.x}, 0);
       }},
      {"S4",
       [](Inputs& in) {
         concatenate(in.g, {in.x, in.matrix}, 1);
       }},
      {"S4",
       [](Inputs& in) {
         concatenate(in.g, {in.line, in.line}, 1);
       }},
      {"S5", [](Inputs& in) { slice(in.g, in.x, 0, 0, 1); }},
      {"S5", [](Inputs& in) { slice(in.g, in.line, 0, 5, 2); }},
      {"S5", [](Inputs& in) { slice(in.g, in.line, 0, -1, 2); }},
      {"S6", [](Inputs& in) { pack(in.g, in.x); }},
      {"S7", [](Inputs& in) { unpack(in.g, in.panels, 33); }},
      {"N2", [](Inputs& in) { pack(in.g, in.line); }},
  });
}

TEST(Build, RefusesSumsAndRowsThatBreakARule) {
  expect_refused({
      {"D1", [](Inputs& in) { dot(in.g, in.x, in.half); }},
      {"D2", [](Inputs& in) { dot(in.g, in.x, in.panels); }},
      {"D2",
       [](Inputs& in) {
         dot(in.g, in.x, transpose(in.g, in.matrix, {1, 0}));
       }},
      {"N2", [](Inputs& in) { reduce(in.g, Op::reduce_sum, in.ids); }},
      {"R1", [](Inputs& in) { reduce(in.g, Op::reduce_max, constant(in.g, {1}, {})); }},
      {"N2", [](Inputs& in) { gather_rows(in.g, in.x, in.x); }},
      {"G1", [](Inputs& in) { gather_rows(in.g, constant(in.g, {1}, {}), in.ids); }},
      {"W1", [](Inputs& in) { write_rows(in.g, in.half, in.x, in.ids); }},
      {"W1", [](Inputs& in) { write_rows(in.g, in.matrix, in.matrix, in.ids); }},
      {"T1", [](Inputs& in) { top_k(in.g, in.x, 7); }},
      {"N2", [](Inputs& in) { top_k(in.g, in.list, 1); }},
  });
}

TEST(Build, RefusesEmbeddingsThatBreakARule) {
  const auto embed_of = [](Inputs& in, Value positions, Value table, int64_t half) {
    embed(in.g, {in.ids, positions, table, frequencies(in.g, half)}, 1.0F, 1);
  };
  expect_refused({
      {"C1", [&](Inputs& in) { embed_of(in, in.line, in.matrix, 3); }},
      {"C1", [&](Inputs& in) { embed_of(in, in.ids, in.line, 3); }},
      {"C1", [&](Inputs& in) { embed_of(in, in.ids, in.matrix, 2); }},
      {"C1", [&](Inputs& in) { embed_of(in, in.ids, in.half, 3); }},
      {"C1",
       [&](Inputs& in) {
         embed_of(in, in.ids, input(in.g, "five", {DType::f32, {2, 6, 5}}), 3);
       }},
  });
}

TEST(Build, RefusesMatricesAndAttentionThatBreakARule) {
  expect_refused({
      {"C2", [](Inputs& in) { layer_norm(in.g, in.x, in.line, in.ids, 1e-5F); }},
      {"M1",
       [](Inputs& in) {
         linear(in.g, {in.x, in.matrix, {}, {}}, 19);
       }},
      {"M1",
       [](Inputs& in) {
         linear(in.g, {in.x, in.half, {}, {}}, 20);
       }},
      {"M1",
       [](Inputs& in) {
         linear(in.g, {in.x, in.panels, {}, {}}, 33);
       }},
      {"C3",
       [](Inputs& in) {
         linear(in.g, {in.x, in.matrix, in.line, {}}, 20);
       }},
      {"C4",
       [](Inputs& in) {
         attend(in.g, {in.x, in.x, in.x, in.list, in.ids}, 4, 1.0F);
       }},
      {"C4",
       [](Inputs& in) {
         attend(in.g, {in.x, in.x, in.x, in.list, in.ids}, 0, 1.0F);
       }},
      {"C4",
       [](Inputs& in) {
         attend(in.g, {in.x, in.x, in.matrix, in.list, in.ids}, 2, 1.0F);
       }},
      {"C4",
       [](Inputs& in) {
         attend(in.g, {in.x, in.x, in.x, in.list, in.line}, 2, 1.0F);
       }},
      {"C5", [](Inputs& in) { project_top_k(in.g, in.x, in.matrix, 20, 21); }},
      {"M1", [](Inputs& in) { project_top_k(in.g, in.x, in.matrix, 21, 2); }},
  });
}

TEST(Build, InfersCountedTypes) {
  Inputs in;
  EXPECT_EQ(to_string(in.g.type(dot(in.g, in.x, in.matrix))), "f32[rows<=8,20]");
  EXPECT_EQ(to_string(in.g.type(linear(in.g, {in.x, in.panels, {}, {}}, 20))), "f32[rows<=8,20]");
  EXPECT_EQ(to_string(in.g.type(gather_rows(in.g, in.half, in.list))), "f16[rows<=8,context<=5,6]");
  EXPECT_EQ(to_string(in.g.type(reduce(in.g, Op::reduce_sum, in.x))), "f32[rows<=8]");
  EXPECT_EQ(to_string(in.g.type(pack(in.g, in.matrix))), "f32[2,6,16]");
  EXPECT_EQ(to_string(in.g.type(reshape(in.g, in.x, {kRows, 2, 3}))), "f32[rows<=8,2,3]");
  const Value best = project_top_k(in.g, in.x, in.matrix, 20, Dim(9, Count::candidates));
  EXPECT_EQ(to_string(in.g.type({best.node, 1})), "s32[rows<=8,candidates<=9]");
  EXPECT_EQ(to_string(in.g.type({best.node, 2})), "f32[rows<=8]");
}

}  // namespace
}  // namespace ng::testing
