"""The tensors that the families have in common, as Hugging Face's files hold them."""

from tttjax.models.tensor_layout import EMBEDDING, LM_HEAD, Layout


def layer_layout(name: str, path: str, file: str, param: str) -> Layout:
  """A tensor of every layer.

  Args:
    name: name in the file, after "model.layers.{layer}.".
    path: keys below "layers" in the parameter tree, separated by slashes.
    file: axes in the file, separated by spaces.
    param: axes in the parameter tree, without the layer axis.
  """
  place = ("layers", *path.split("/"))
  return Layout(f"model.layers.{{layer}}.{name}", place, tuple(file.split()), param)


def dense_layouts(*of_attention: Layout) -> tuple[Layout, ...]:
  """Every kind of tensor of a dense decoder, with what a family's attention adds."""
  return (
    Layout("model.embed_tokens.weight", EMBEDDING, ("V", "D"), "VD"),
    layer_layout("input_layernorm.weight", "attention_norm/scale", "D", "D"),
    layer_layout("self_attn.q_proj.weight", "attention/query/kernel", "Hd D", "DHd"),
    layer_layout("self_attn.k_proj.weight", "attention/key/kernel", "Kd D", "DKd"),
    layer_layout("self_attn.v_proj.weight", "attention/value/kernel", "Kd D", "DKd"),
    *of_attention,
    layer_layout("self_attn.o_proj.weight", "attention/output/kernel", "D Hd", "HdD"),
    layer_layout("post_attention_layernorm.weight", "mlp_norm/scale", "D", "D"),
    layer_layout("mlp.gate_proj.weight", "mlp/gate/kernel", "F D", "DF"),
    layer_layout("mlp.up_proj.weight", "mlp/up/kernel", "F D", "DF"),
    layer_layout("mlp.down_proj.weight", "mlp/down/kernel", "D F", "FD"),
    Layout("model.norm.weight", ("final_norm", "scale"), ("D",), "D"),
    Layout("lm_head.weight", LM_HEAD, ("V", "D"), "DV"),
  )
