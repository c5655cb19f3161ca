// Do several devices share jobs, and does one that fails leave the others their work?
#include <gmock/gmock.h>

#include <atomic>
#include <set>
#include <thread>

#include "backends/cpu/cpu.h"
#include "base/error.h"
#include "tiny_phases.h"
#include "translate/batch.h"

namespace ng {
namespace {

using ::testing::HasSubstr;

constexpr int kNever = 1 << 30;

// What devices of one test share: those that never fail wait for those that do, so that each has
// work when it fails.
struct Course {
  std::atomic<int> to_fail{0};
};

// A device that is lost with a run, or in which that run alone fails.
class Failing : public Executable {
 public:
  Failing(std::unique_ptr<Executable> inner, std::atomic<int>& left, bool fault, Course& course)
      : inner_(std::move(inner)), left_(left), fault_(fault), course_(course) {}
  const std::vector<Port>& inputs() const override { return inner_->inputs(); }
  const std::vector<Port>& outputs() const override { return inner_->outputs(); }
  void run(std::span<const Argument> inputs, std::span<const Argument> outputs) override {
    const int left = left_--;
    if (left == 0) --course_.to_fail;
    if (left == 0 && fault_) throw Fault("the run failed");
    if (left <= 0 && !fault_) throw Error(Error::Kind::Device, "the core is gone");
    while (left_ > kNever / 2 && course_.to_fail > 0) std::this_thread::yield();
    inner_->run(inputs, outputs);
  }

 private:
  std::unique_ptr<Executable> inner_;
  std::atomic<int>& left_;
  const bool fault_;
  Course& course_;
};

class FailingDevice : public Device {
 public:
  FailingDevice(int runs, bool fault, Course& course)
      : inner_(open_cpu({1})), left_(runs), fault_(fault), course_(course) {
    course.to_fail += runs < kNever ? 1 : 0;
  }
  std::unique_ptr<Executable> load(std::string_view artifact,
                                   const WeightSource& weights) override {
    return std::make_unique<Failing>(inner_->load(artifact, weights), left_, fault_, course_);
  }
  std::string description() const override { return "failing"; }

 private:
  std::unique_ptr<Device> inner_;
  std::atomic<int> left_;
  const bool fault_;
  Course& course_;
};

// Replicas whose devices fail after so many runs each.
struct Cores {
  explicit Cores(const std::vector<int>& runs, bool fault = false)
      : replicas(runs.size(), [this, runs, fault](size_t i) {
          opened.insert(i);
          devices.push_back(std::make_unique<FailingDevice>(runs[i], fault, course));
          return std::make_unique<Session>(test::tiny().phases(), *devices.back());
        }) {}
  Course course;
  // What check_devices() says.
  std::string told() const {
    try {
      replicas.check_devices();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), Error::Kind::Device);
      return error.what();
    }
    return "";
  }
  std::vector<std::unique_ptr<Device>> devices;
  std::set<size_t> opened;
  Replicas replicas;
};

std::vector<Job> some_jobs(uint64_t seed, int count) {
  std::mt19937_64 random(seed);
  std::vector<Job> jobs;
  for (int i = 0; i < count; ++i) jobs.push_back(test::random_job(random));
  return jobs;
}

std::vector<std::string> results_alone(std::vector<Job> jobs) {
  const std::unique_ptr<Device> device = open_cpu({1});
  Session session(test::tiny().phases(), *device);
  run_jobs(session, jobs, {});
  std::vector<std::string> results;
  for (const Job& job : jobs) results.push_back(test::result_of(job));
  return results;
}

TEST(Replicas, GiveEveryJobItsResult) {
  const std::vector<std::string> expected = results_alone(some_jobs(5, 40));
  for (const size_t count : {1U, 2U, 3U}) {
    Cores cores(std::vector<int>(count, kNever));
    for (int again = 0; again < 2; ++again) {
      std::vector<Job> jobs = some_jobs(5, 40);
      cores.replicas.run(jobs, {4});
      for (size_t i = 0; i < jobs.size(); ++i) ASSERT_EQ(test::result_of(jobs[i]), expected[i]);
    }
    EXPECT_EQ(cores.opened.size(), count);
    EXPECT_EQ(cores.told(), "");
  }
}

TEST(Replicas, AreOpenedWhenThereIsWorkForThem) {
  Cores cores({kNever, kNever, kNever});
  std::vector<Job> jobs = some_jobs(6, 2);
  cores.replicas.run(jobs, {});
  EXPECT_EQ(cores.opened, (std::set<size_t>{0, 1}));
  std::vector<Job> none;
  cores.replicas.run(none, {});
}

// How many jobs have that error; the others have to have what is expected.
size_t failed_by(const std::vector<Job>& jobs, const std::vector<std::string>& expected,
                 std::string_view error) {
  size_t failed = 0;
  for (size_t i = 0; i < jobs.size(); ++i) {
    failed += jobs[i].error == error ? 1 : 0;
    EXPECT_EQ(test::result_of(jobs[i]), jobs[i].error == error ? jobs[i].error : expected[i]) << i;
  }
  return failed;
}

TEST(Replicas, OneThatFailsAnswersItsJobsAndTheOthersGoOn) {
  const std::vector<std::string> expected = results_alone(some_jobs(7, 40));
  for (const int runs : {0, 1, 5, 20}) {
    Cores cores({kNever, runs});
    std::vector<Job> jobs = some_jobs(7, 40);
    cores.replicas.run(jobs, {3});
    const size_t failed = failed_by(jobs, expected, "the core is gone");
    EXPECT_GE(failed, 1U) << runs;
    EXPECT_LE(failed, 20U) << runs;
    EXPECT_EQ(cores.told(), "a device failed: core 1 is lost: the core is gone");

    std::vector<Job> more = some_jobs(7, 40);  // all of them by the other
    cores.replicas.run(more, {3});
    for (size_t i = 0; i < more.size(); ++i) ASSERT_EQ(test::result_of(more[i]), expected[i]);
  }
}

TEST(Replicas, AFaultFailsTheJobsThatWereInTheRunAndNoOthers) {
  const std::vector<std::string> expected = results_alone(some_jobs(9, 40));
  for (const std::vector<int>& cores_of : {std::vector<int>{0}, {1}, {7}, {20}, {kNever, 5}}) {
    Cores cores(cores_of, true);
    for (const size_t most : {3U, 0U}) {  // the second time all is well
      std::vector<Job> jobs = some_jobs(9, 40);
      cores.replicas.run(jobs, {3});
      const size_t failed = failed_by(jobs, expected, "the run failed");
      EXPECT_EQ(failed > 0, most > 0);
      EXPECT_LE(failed, most);
    }
    const size_t last = cores_of.size() - 1;
    EXPECT_EQ(cores.told(), fmt::format("a device failed: core {}: the run failed", last));
  }
}

TEST(Replicas, WhereNoneIsLeftEveryJobIsAnswered) {
  const std::vector<std::string> expected = results_alone(some_jobs(8, 40));
  for (const std::vector<int>& runs : {std::vector<int>{2}, {0}, {25}, {20, 20}}) {
    Cores cores(runs);
    for (int again = 0; again < 2; ++again) {
      std::vector<Job> jobs = some_jobs(8, 40);
      cores.replicas.run(jobs, {2});
      size_t waited = 0;
      for (size_t i = 0; i < jobs.size(); ++i) {
        waited += jobs[i].error.starts_with("every device is lost: the core is gone") ? 1 : 0;
        const bool gone = jobs[i].error.find("the core is gone") != std::string::npos;
        ASSERT_EQ(test::result_of(jobs[i]), gone ? jobs[i].error : expected[i]);
      }
      EXPECT_GT(waited, again == 1 ? 39U : 0U);
    }
    EXPECT_THAT(cores.told(), HasSubstr("core 0 is lost: the core is gone"));
  }
}

}  // namespace
}  // namespace ng
