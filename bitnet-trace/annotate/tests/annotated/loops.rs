//! The loop over the blocks, and the position.

use super::{attribute, init};

fn model(fields: &str, arguments: &str, body: &str) -> String {
    format!(
        "struct Model {{ {fields} }}\n\
         impl Model {{ fn run(&mut self, xs: &Tensor, {arguments}) -> Result<Tensor> {{ {body} Ok(xs) }} }}\n"
    )
}

#[test]
fn the_variable_that_is_the_block_is_found() {
    for (pass, block) in [
        ("layer in self.layers.iter_mut()", "layer"),
        ("layer in &mut self.layers", "layer"),
        ("block in &self.h", "block"),
        ("block in self.block.iter()", "block"),
        ("(index, block) in self.blocks.iter().enumerate()", "block"),
        ("(block, cache) in self.blocks.iter_mut().zip(caches.iter_mut())", "block"),
        ("(cache, block) in caches.iter_mut().zip(&self.blocks)", "block"),
        ("(i, (block, cache)) in self.blocks.iter().zip(caches).enumerate()", "block"),
        ("mut layer in self.encoder.encoder_layers.iter().take(n)", "layer"),
        ("&layer in self.layers.iter()", "layer"),
        ("block in (self.double_blocks.iter())", "block"),
        ("layer in model.layers.iter()", "layer"),
    ] {
        let source = model("", "model: &Model", &format!("for {pass} {{ y }}"));
        assert_eq!(attribute(&source), format!("#[traced(layers({block}), locals)]"), "{pass}");
    }
}

#[test]
fn other_loops_are_no_passes_over_blocks() {
    for pass in [
        "layer in 0..self.layers.len()",
        "layer in layers.iter()",
        "expert in self.experts.iter()",
        "head in &self.lm_heads",
        // The first pass would not be layer 0.
        "layer in self.layers.iter().skip(1)",
        "layer in self.layers.iter().rev()",
        "layer in &self.layers[2..]",
        // No variable is the block.
        "(conv, resnet) in self.layers.iter()",
        "_ in self.layers.iter()",
        // A part of a block.
        "inner in outer.blocks.iter()",
        "x in self.embed(self.layers.iter())",
    ] {
        let source = model("", "", &format!("for {pass} {{ y }}"));
        assert_eq!(attribute(&source), "#[traced(locals)]", "{pass}");
    }
    let nested = model("", "", "fn inner(&self) -> Tensor { for layer in self.layers.iter() { y } }");
    assert_eq!(attribute(&nested), "#[traced(locals)]");
}

#[test]
fn the_elements_are_blocks_and_not_single_operations() {
    let body = "for layer in self.layers.iter() { y }";
    for (field, is_block) in [
        ("layers: Vec<DecoderLayer>", true),
        ("layers: Vec<ConvNextBlock>", true),
        ("layers: Box<[Arc<Layer>]>", true),
        ("layers: Vec<Box<dyn Module>>", true),
        ("layers: Vec<Linear>", false),
        ("layers: Vec<candle_nn::Conv2d>", false),
        ("layers: [QLinear; 3]", false),
        ("layers: Arc<Vec<RmsNorm>>", false),
        ("layers: Vec<Tensor>", false),
    ] {
        let layers = if is_block { "layers(layer), " } else { "" };
        assert_eq!(attribute(&model(field, "", body)), format!("#[traced({layers}locals)]"), "{field}");
    }
    let inner = "mod m { struct Encoder { layers: Vec<Linear> } }\n".to_owned()
        + &model("encoder: Box<Encoder>", "", "for layer in self.encoder.layers.iter() { y }");
    assert_eq!(attribute(&inner), "#[traced(locals)]");
}

#[test]
fn loops_that_disagree_give_no_layers_and_a_note() {
    for (body, note) in [
        (
            "for a in self.down_blocks.iter() { y } for b in self.up_blocks.iter() { y }",
            "no `layers(..)`: the loops over blocks bind different variables, `a`, `b`",
        ),
        (
            "for layer in self.layers.iter() { y } for layer in 0..3 { y }",
            "no `layers(..)`: another loop of the body also binds `layer`",
        ),
    ] {
        let annotated = init(&model("", "pos: usize", body));
        let function = &annotated.functions[0];
        let expected = ("#[traced(seq = pos, locals)]", Some(note));
        assert_eq!((function.attribute.as_str(), function.note.as_deref()), expected, "{body}");
    }
    let agree = model("", "", "for b in self.double_blocks.iter() { y } for b in self.single_blocks.iter() { y }");
    assert_eq!(attribute(&agree), "#[traced(layers(b), locals)]");
}

#[test]
fn the_position_is_the_step_of_the_function_that_has_the_loop() {
    let body = "for layer in self.layers.iter() { y }";
    for (arguments, seq) in [
        ("index_pos: usize", "seq = index_pos, "),
        ("mask: &Tensor, mut seqlen_offset: usize", "seq = seqlen_offset, "),
        ("_offset: usize", "seq = _offset, "),
        ("offset: usize, start_pos: usize", "seq = start_pos, "),
        ("index_pos: &Tensor", ""),
        ("offset: Option<usize>", ""),
        ("max_position_embeddings: usize, index: usize", ""),
    ] {
        let expected = format!("#[traced({seq}layers(layer), locals)]");
        assert_eq!(attribute(&model("", arguments, body)), expected, "{arguments}");
    }
    assert_eq!(attribute(&model("", "index_pos: usize", "")), "#[traced(locals)]");
}
