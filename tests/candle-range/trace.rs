//! The library on a candle that is not the workspace's: records, comparison and captured values do not
//! depend on its version.

use std::path::Path;

use bitnet_trace::{
    ToTensor, Tolerance, Trace, TraceContext, TraceRecord, TraceSession, TracedModule, diff, dump_trace,
    record_weights, traced,
};
use candle_core::{CpuStorage, DType, Device, Module, Result, Storage, Tensor, op::BackpropOp};

/// Small integers are exact in every type.
const VALUES: [f32; 12] = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0];

/// Every type that can be recorded, and the bytes of 0 to 11 in it.
fn types() -> [(DType, Vec<u8>); 10] {
    fn of<const N: usize>(bytes: impl Fn(u8) -> [u8; N]) -> Vec<u8> {
        (0..12).flat_map(bytes).collect()
    }
    let half = |x: u8| half_bits(f32::from(x), 5);
    // Four bits of exponent (bias 7), three of mantissa: every integer below 16 has one.
    let eighth = |x: u8| match x {
        0 => 0,
        _ => {
            let exponent = x.ilog2() as u8;
            (exponent + 7) << 3 | (x << (3 - exponent)) & 7
        }
    };
    [
        (DType::U8, of(|x| [x])),
        (DType::U32, of(|x| u32::from(x).to_le_bytes())),
        (DType::I16, of(|x| i16::from(x).to_le_bytes())),
        (DType::I32, of(|x| i32::from(x).to_le_bytes())),
        (DType::I64, of(|x| i64::from(x).to_le_bytes())),
        (DType::BF16, of(|x| half_bits(f32::from(x), 8))),
        (DType::F16, of(half)),
        (DType::F32, of(|x| f32::from(x).to_le_bytes())),
        (DType::F64, of(|x| f64::from(x).to_le_bytes())),
        (DType::F8E4M3, of(|x| [eighth(x)])),
    ]
}

/// A number as 16 bits with so many of exponent; exact for small integers.
fn half_bits(x: f32, exponent_bits: u32) -> [u8; 2] {
    if x == 0.0 {
        return [0; 2];
    }
    let bits = x.to_bits();
    let (exponent, mantissa) = ((bits >> 23) - 127, bits & 0x7f_ffff);
    let bias = (1 << (exponent_bits - 1)) - 1;
    let mantissa_bits = 15 - exponent_bits;
    let bits = (exponent + bias) << mantissa_bits | mantissa >> (23 - mantissa_bits);
    u16::try_from(bits).expect("16 bits").to_le_bytes()
}

fn tensor(dtype: DType, bytes: &[u8], shape: &[usize]) -> Tensor {
    Tensor::from_raw_buffer(bytes, dtype, shape, &Device::Cpu).expect("a tensor")
}

fn digest(values: &[f32]) -> String {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    blake3::hash(&bytes).to_string()
}

/// What was captured, on the candle that recorded it.
fn captured(trace: &Trace, record: &TraceRecord) -> Tensor {
    let values = trace.values(record).expect("readable").expect("captured");
    values.to_tensor(&Device::Cpu).expect("a tensor")
}

#[traced]
fn same(x: &Tensor) -> Tensor {
    x.clone()
}

#[traced(stage = "doubled", layer = layer, inputs(x))]
fn doubled(layer: usize, x: &Tensor) -> Result<Tensor> {
    x + x
}

fn in_memory(run: impl FnOnce()) -> Trace {
    let session = TraceSession::builder().in_memory().capture("values").start().expect("a session");
    session.in_scope(run);
    session.finish().expect("nothing lost")
}

#[test]
fn a_tensor_of_every_type_is_recorded_and_given_back() {
    for (dtype, bytes) in types() {
        let x = tensor(dtype, &bytes, &[3, 4]);
        let dir = tempdir(&format!("type_{dtype:?}"));
        let on_disk = TraceSession::builder().dir(&dir).capture("values").start().expect("a session");
        on_disk.in_scope(|| drop(same(&x)));
        let on_disk = on_disk.finish().expect("nothing lost");
        for trace in [in_memory(|| drop(same(&x))), on_disk, Trace::open(&dir).expect("a trace")] {
            let [record] = trace.records() else { panic!("{dtype:?}: {:?}", trace.records()) };
            assert_eq!(record.name, "same");
            assert_eq!(record.dtype, format!("{dtype:?}"));
            assert_eq!(record.shape, [3, 4]);
            assert_eq!(record.blake3, digest(&VALUES), "{dtype:?}");
            assert_eq!((record.min, record.max, record.mean), (Some(0.0), Some(11.0), Some(5.5)), "{dtype:?}");
            assert_eq!((record.zero_count, record.num_elements), (1, 12));
            let values = captured(&trace, record);
            assert_eq!((values.dtype(), values.dims()), (dtype, &[3, 4][..]));
            // Its bytes are those that it was made of: it records as the first did.
            let again = in_memory(|| drop(same(&values)));
            assert_eq!(again.records()[0].blake3, record.blake3, "{dtype:?}");
            assert_eq!(again.records()[0].raw_blake3, record.raw_blake3, "{dtype:?}");
        }
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}

/// A directory of this test binary, empty.
fn tempdir(name: &str) -> std::path::PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir).expect("what was left is removed");
    }
    dir
}

#[test]
fn views_are_read_in_their_logical_order() {
    for (dtype, bytes) in types() {
        let x = tensor(dtype, &bytes, &[3, 4]);
        let row = x.narrow(0, 1, 1).expect("a row");
        let views: [(&str, Result<Tensor>, &[f32]); 4] = [
            ("transposed", x.t(), &[0.0, 4.0, 8.0, 1.0, 5.0, 9.0, 2.0, 6.0, 10.0, 3.0, 7.0, 11.0]),
            ("columns", x.narrow(1, 1, 2), &[1.0, 2.0, 5.0, 6.0, 9.0, 10.0]),
            ("repeated", row.broadcast_as((2, 4)), &[4.0, 5.0, 6.0, 7.0, 4.0, 5.0, 6.0, 7.0]),
            ("nothing", x.narrow(0, 0, 0), &[]),
        ];
        for (what, view, expected) in views {
            let view = view.expect(what);
            let trace = in_memory(|| drop(same(&view)));
            let record = &trace.records()[0];
            assert_eq!(record.blake3, digest(expected), "{dtype:?} {what}");
            assert_eq!(captured(&trace, record).dims(), view.dims(), "{dtype:?} {what}");
        }
    }
}

#[test]
fn the_whole_way_from_a_model_to_the_first_difference() {
    struct Half;
    impl Module for Half {
        fn forward(&self, x: &Tensor) -> Result<Tensor> {
            x.affine(0.5, 0.0)
        }
    }
    let run = |error: f64| {
        in_memory(|| {
            let x = Tensor::new(&VALUES, &Device::Cpu).expect("a tensor");
            record_weights([("weight", &x)]);
            let half = TracedModule::new("half", Half);
            for step in 0..2 {
                let _step = TraceContext::seq(step).enter();
                let y = doubled(3, &x).expect("it runs");
                let y = y.affine(1.0, if step == 1 { error } else { 0.0 }).expect("it runs");
                let z = half.forward(&y).expect("it runs");
                dump_trace("by_hand", &z).expect("recorded");
            }
        })
    };
    let reference = run(0.0);
    let names: Vec<_> = reference.records().iter().map(|record| record.name.as_str()).collect();
    let steps = [0, 1].map(|step| {
        [
            format!("t{step}/blk3/doubled.in.x"),
            format!("t{step}/blk3/doubled"),
            format!("t{step}/half"),
            "by_hand".to_owned(),
        ]
    });
    assert_eq!(names.first(), Some(&"weight"));
    assert_eq!(names.len(), 1 + 2 * steps[0].len(), "{names:?}");
    for (found, expected) in names[1..].iter().zip(steps.iter().flatten()) {
        assert!(found.contains(expected.as_str()), "{names:?}");
    }
    diff(&reference, &run(0.0), &Tolerance::default()).assert_match();
    let comparison = diff(&reference, &run(0.25), &Tolerance::default());
    let first = comparison.first_divergence().expect("they differ");
    assert_eq!((first.key.seq, &*first.key.stage), (Some(1), "half"));
}

#[test]
fn a_type_without_numbers_is_counted_as_lost() {
    let storage = Storage::Cpu(CpuStorage::F4(vec![0; 8]));
    let packed = Tensor::from_storage(storage, 16, BackpropOp::none(), false);
    let session = TraceSession::builder().in_memory().start().expect("a session");
    session.in_scope(|| drop(same(&packed)));
    let error = session.finish().expect_err("a record is lost");
    assert_eq!(error.losses().len(), 1, "{error}");
    assert!(error.to_string().contains("F4"), "{error}");
}
