"""tttjax: test-time training of long-context language models in JAX.

The public functions are pure: params, cache, key and config in, new values out.
"""

from tttjax import flops, mechanism
from tttjax.cache import PrefixCache
from tttjax.checkpoint import export, from_pretrained, load_tokenizer, restore_fast, save_fast
from tttjax.decode.beam import BeamGeneration, beam_search
from tttjax.decode.config import SamplingConfig
from tttjax.decode.generate import Generation, generate, stream
from tttjax.decode.score import score
from tttjax.embedded import EMBEDDED
from tttjax.errors import UserError
from tttjax.prefill import prefill
from tttjax.qwen3.config import Qwen3Config, YarnConfig
from tttjax.qwen3.model import Qwen3, abstract_params, init_params
from tttjax.sharding import make_mesh
from tttjax.ttt.adapt import adapt, adapt_params, ttt_step
from tttjax.ttt.config import TTTConfig
from tttjax.ttt.fast import init_fast, merge, scaled_queries
from tttjax.ttt.full import full_ttt
from tttjax.ttt.optimizer import init_optimizer
from tttjax.ttt.step import StepMetrics
