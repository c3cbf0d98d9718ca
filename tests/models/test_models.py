import subprocess
import sys

import pytest

from cbtllm_utils import models
from cbtllm_utils.models import backbones, tokenizers


def test_the_room_opens_without_torch():
    code = "import sys; from cbtllm_utils import models; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_room_offers_both_loaders():
    assert models.load_model is backbones.load_model
    assert models.load_tokenizer is tokenizers.load_tokenizer
    with pytest.raises(AttributeError, match="load_models"):
        _ = models.load_models
