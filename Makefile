PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: all inspect diagnose heatmaps lab data train test test-all publish bench clean
.DELETE_ON_ERROR:

# Run VisualizingCNN.ipynb on the trained model and the sample photos.
all: $(VENV)/installed
	mkdir -p out
	$(BIN)/papermill VisualizingCNN.ipynb out/VisualizingCNN.ipynb
	$(BIN)/jupyter nbconvert --log-level WARN --to html --template-file debugcnn/templates/alt.html.j2 out/VisualizingCNN.ipynb
	@echo "Done. Open out/VisualizingCNN.html in a browser, or out/VisualizingCNN.ipynb with: make lab"

# See your own model: make inspect MODEL=my.keras PHOTOS=my_photos/ OPTIONS="--set CLASSES='[cat, dog]'"
inspect: $(VENV)/installed
	$(BIN)/debugcnn inspect "$(or $(MODEL),examples/shapes.keras)" "$(or $(PHOTOS),examples/shapes)" $(OPTIONS)

# Find out what is wrong with it: make diagnose MODEL=my.keras PHOTOS=my_photos/ OPTIONS="--value-range 0 1"
diagnose: $(VENV)/installed
	mkdir -p out
	$(BIN)/debugcnn diagnose "$(MODEL)" "$(PHOTOS)" --html out/diagnosis.html $(OPTIONS)

# Find out which heatmaps to trust: make heatmaps MODEL=my.keras PHOTOS=my_photos/ OPTIONS="--images 10"
heatmaps: $(VENV)/installed
	mkdir -p out
	$(BIN)/debugcnn heatmaps "$(MODEL)" "$(PHOTOS)" --json out/heatmaps.json $(OPTIONS)

lab: $(VENV)/installed
	$(BIN)/jupyter lab

# make data SOURCE=dogs-vs-cats.zip
data: $(VENV)/installed
	$(BIN)/debugcnn separate $(if $(SOURCE),"$(SOURCE)",--download)

train: $(VENV)/installed
	mkdir -p out
	$(BIN)/papermill --log-output CatsVsDogs.ipynb out/CatsVsDogs.ipynb

# Everything that takes seconds; test-all adds whole trainings, large models, and the notebooks.
test: $(VENV)/tests-installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow and not notebook" --doctest-modules debugcnn tests

test-all: $(VENV)/tests-installed
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "slow or notebook" tests

# Execute the notebooks in place, as they are committed, and draw all patterns.
publish: $(VENV)/tests-installed
	$(BIN)/python -m tools.publish CatsVsDogs.ipynb VisualizingCNN.ipynb YourCNN.ipynb DebuggingCNN.ipynb CheckingHeatmaps.ipynb
	$(BIN)/python -m tools.patterns

# make bench ARCHIVE=kagglecatsanddogs.zip [NAMES="grad_cam activations"]
bench: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --requirement benchmarks/requirements.txt
	$(BIN)/python -m pip install --quiet --force-reinstall --no-deps $$(grep opencv requirements.txt)  # a peer brings another
	$(BIN)/python -m benchmarks.run $(NAMES) $(if $(ARCHIVE),--archive "$(ARCHIVE)")

$(VENV)/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c "import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v[:2] <= (3, 13) else f'This is Python {v.major}.{v.minor}, and the tutorial needs 3.11 to 3.13: name another with make PYTHON=python3.12')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

$(VENV)/tests-installed: $(VENV)/installed tests/requirements.txt
	$(BIN)/python -m pip install --quiet --requirement tests/requirements.txt
	touch $@

clean:
	rm -rf $(VENV) out
