PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: all inspect diagnose heatmaps lab data train test publish bench clean
.DELETE_ON_ERROR:

# Run VisualizingCNN.ipynb on the trained model and the sample photos.
all: $(VENV)/installed
	mkdir -p out
	$(BIN)/papermill VisualizingCNN.ipynb out/VisualizingCNN.ipynb
	$(BIN)/jupyter nbconvert --log-level WARN --to html --template-file examples/alt.html.j2 out/VisualizingCNN.ipynb
	@echo "Done. Open out/VisualizingCNN.html in a browser, or out/VisualizingCNN.ipynb with: make lab"

# Open your own net up: make inspect MODEL=my.keras PHOTOS=my_photos/ OPTIONS='-y "CLASSES: [cat, dog]"'
inspect: $(VENV)/installed
	mkdir -p out
	$(BIN)/papermill $(if $(MODEL),-r MODEL "$(MODEL)") $(if $(PHOTOS),-r PHOTOS "$(PHOTOS)") $(OPTIONS) YourCNN.ipynb out/YourCNN.ipynb
	$(BIN)/jupyter nbconvert --log-level WARN --to html --no-input --template-file examples/page.html.j2 out/YourCNN.ipynb
	@echo "Done. Open out/YourCNN.html in a browser."

# Name what is wrong with your own net: make diagnose MODEL=my.keras PHOTOS=my_photos/ OPTIONS="--value-range 0 1"
diagnose: $(VENV)/installed
	mkdir -p out
	$(BIN)/python diagnose.py "$(MODEL)" "$(PHOTOS)" --html out/diagnosis.html $(OPTIONS)

# Which heatmaps of your own net are true: make heatmaps MODEL=my.keras PHOTOS=my_photos/ OPTIONS="--limit 10"
heatmaps: $(VENV)/installed
	mkdir -p out
	$(BIN)/python check_heatmaps.py "$(MODEL)" "$(PHOTOS)" --json out/heatmaps.json $(OPTIONS)

lab: $(VENV)/installed
	$(BIN)/jupyter lab

# make data SOURCE=dogs-vs-cats.zip
data: $(VENV)/installed
	$(BIN)/python data_separator.py $(if $(SOURCE),"$(SOURCE)",--download)

train: $(VENV)/installed
	mkdir -p out
	$(BIN)/papermill --log-output CatsVsDogs.ipynb out/CatsVsDogs.ipynb

test: $(VENV)/tests-installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m pytest -q tests

# Execute the notebooks in place, as they are committed, and draw all patterns.
publish: $(VENV)/tests-installed
	$(BIN)/python tests/publish.py CatsVsDogs.ipynb VisualizingCNN.ipynb YourCNN.ipynb DebuggingCNN.ipynb CheckingHeatmaps.ipynb
	$(BIN)/python examples/patterns.py

# make bench ARCHIVE=kagglecatsanddogs.zip [NAMES="grad_cam activations"]
bench: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --requirement benchmarks/requirements.txt
	$(BIN)/python -m pip install --quiet --force-reinstall --no-deps $$(grep opencv requirements.txt)  # a peer brings another
	$(BIN)/python benchmarks/run.py $(NAMES) $(if $(ARCHIVE),--archive "$(ARCHIVE)")

$(VENV)/installed: requirements.txt
	@$(PYTHON) -c "import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v[:2] <= (3, 13) else f'This is Python {v.major}.{v.minor}, and the tutorial needs 3.11 to 3.13: name another with make PYTHON=python3.12')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

$(VENV)/tests-installed: $(VENV)/installed tests/requirements.txt
	$(BIN)/python -m pip install --quiet --requirement tests/requirements.txt
	touch $@

clean:
	rm -rf $(VENV) out
