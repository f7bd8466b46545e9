"""tttjax: test-time training of long-context language models in JAX.

The public functions are pure: params, cache, key and config in, new values out.
"""

from tttjax import program  # before the imports that take seconds: Ctrl-C is heard during them

# isort: split

from tttjax import flops, mechanism
from tttjax.attention.caches import PrefixCache
from tttjax.checkpoint import export, from_pretrained, load_tokenizer, restore_fast, save_fast
from tttjax.decode.beams import BeamGeneration, beam_search
from tttjax.decode.end_markers import text_marker
from tttjax.decode.generation import Generation, generate, stream
from tttjax.decode.prefilling import prefill
from tttjax.decode.sampling_config import SamplingConfig
from tttjax.decode.scoring import score
from tttjax.embedded import EMBEDDED
from tttjax.errors import UserError
from tttjax.experiment import Run, default_config, run
from tttjax.models.decoder import Decoder, abstract_params, init_params
from tttjax.models.decoder_config import DecoderConfig, Llama3Config, YarnConfig
from tttjax.session import Session
from tttjax.sharding import make_mesh
from tttjax.ttt.adamw import init_optimizer
from tttjax.ttt.adaptation import adapt, adapt_params, ttt_step
from tttjax.ttt.full_parameters import full_ttt
from tttjax.ttt.history import StepMetrics
from tttjax.ttt.hyperparameters import TTTConfig
from tttjax.ttt.weights import init_fast, merge, scaled_queries

__version__ = "0.2.0"
