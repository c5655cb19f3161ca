# The commands a user and a developer need. `make` lists them.
# Debian's tools come first, whatever else is on PATH; the compilers are named in CMakePresets.json.
export PATH := /usr/bin:/bin:$(PATH)

neuroglot := build/release/neuroglot

.PHONY: help demo test check check-full format tidy clean

help:
	@echo 'make demo        install, build, compile the demo model, verify it, translate a few sentences'
	@echo 'make test        the test suite (Debian packages only; under 15 minutes on 2 cores)'
	@echo 'make check       against third parties, in .venv from PyPI'
	@echo 'make check-full  the full numbers, hours; writes docs/verification.md'
	@echo 'make format      clang-format everything'
	@echo 'make tidy        clang-tidy everything but the tests'
	@echo 'make clean       remove build/'

demo:
	scripts/setup.sh build
	cmake --preset release
	cmake --build --preset release --target neuroglot
	$(neuroglot) compile models/demo -o build/demo --force
	$(neuroglot) verify build/demo
	printf '%s\n' 'I would like a cup of tea.' 'Where is the station?' 'The children are playing in the garden.' \
	  | $(neuroglot) translate build/demo --from eng_Latn --to fra_Latn

test:
	scripts/setup.sh
	scripts/check.sh test

check:
	scripts/setup.sh
	scripts/check.sh check

check-full:
	scripts/setup.sh
	scripts/check.sh full

format:
	scripts/setup.sh
	scripts/check.sh --sources | xargs clang-format-14 -i

tidy:
	scripts/setup.sh
	cmake --preset release
	scripts/check.sh --tidy

clean:
	rm -rf build
