#!/usr/bin/env bash
# Makes the environment of the SpikingJelly benchmark: its own, because SpikingJelly asks for a torchvision and a
# torchaudio that would replace the torch they find. Neither is needed for the conversion of a CNN, so SpikingJelly
# is installed without its dependencies and given those that its converter imports.
set -euo pipefail
folder=${1:-.venv-spikingjelly}
python=${PYTHON:-$(command -v python3.11 || command -v python3)}

"$python" -m venv "$folder"
install() { "$folder/bin/python" -m pip --disable-pip-version-check install --quiet "$@"; }
install torch==2.13.0 numpy==2.4.6
install loguru==0.7.3 matplotlib==3.11.2 packaging==26.3 requests==2.34.2 scipy==1.17.1 tqdm==4.70.1
install --no-deps spikingjelly==2.0.0
"$folder/bin/python" -c 'import spikingjelly.activation_based.ann2snn, torch; print("torch", torch.__version__)'
