//! All annotated functions of the binary, called or not.
//!
//! Every expansion of `#[traced]` puts a reference to its [`CallSite`] into one section of the object
//! file; the linker puts them side by side. Reading them there needs no code that runs before `main`. A
//! crate for this (`linkme`, `inventory`) would do the same with a dozen more lines in every expansion,
//! which people read.
//!
//! `#[used]` marks the references as retained, so that linkers which collect unreferenced sections
//! keep them: lld and mold too, with `-z start-stop-gc`.
#![allow(unsafe_code)] // the section is named and read by its bounds

use super::call_site::CallSite;
use crate::annotation::Site;

/// Every annotated function of this binary, by file and line.
///
/// A function counts once, however often it is instantiated. Libraries that are loaded at run time
/// have lists of their own. Empty on systems whose object files have no such sections (WebAssembly).
///
/// ```
/// use bitnet_trace::{sites, traced};
/// use candle_core::Tensor;
///
/// #[traced(stage = "attn_norm")]
/// fn norm(x: &Tensor) -> Tensor {
///     x.clone()
/// }
///
/// # fn main() {
/// for site in sites() {
///     println!("{} is {} in {}:{}", site.stage, site.function, site.file, site.line);
/// }
/// assert!(sites().iter().any(|site| site.stage == "attn_norm" && site.function == "norm"));
/// # }
/// ```
#[must_use]
pub fn sites() -> Vec<&'static Site> {
    call_sites().into_iter().map(|site| &**site).collect()
}

/// The same functions with their state.
pub(crate) fn call_sites() -> Vec<&'static CallSite> {
    let mut sites: Vec<&'static CallSite> = section::elements().iter().flatten().copied().collect();
    sites.retain(|site| !std::ptr::eq(*site, &raw const ANCHOR));
    sites.sort_by_key(|site| (site.file, site.line, site.stage));
    sites
}

/// Makes a static [`CallSite`] and adds it to the list. The expansion of `#[traced]` calls it.
#[doc(hidden)]
#[macro_export]
macro_rules! __site {
    ($stage:expr, $function:expr, $line:expr $(, outputs: [$($output:expr),*])?) => {{
        use $crate::private::CallSite;
        static SITE: CallSite = CallSite::new($stage, $function, ::core::module_path!(), ::core::file!(), $line)
            $(.outputs(&[$($output),*]))?;
        #[used]
        #[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__bitnet_trace"))]
        #[cfg_attr(windows, unsafe(link_section = ".btrace$m"))]
        #[cfg_attr(all(unix, not(target_vendor = "apple")), unsafe(link_section = "bitnet_trace"))]
        static LISTED: &CallSite = &SITE;
        &SITE
    }};
}

/// Without any annotated function neither the section nor its bounds would exist.
#[used]
#[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__bitnet_trace"))]
#[cfg_attr(windows, unsafe(link_section = ".btrace$m"))]
#[cfg_attr(all(unix, not(target_vendor = "apple")), unsafe(link_section = "bitnet_trace"))]
static LISTED: &CallSite = &ANCHOR;
static ANCHOR: CallSite = CallSite::new("", "", "", "", 0);

/// An entry of the section: a pointer, or zeros, with which a linker may fill gaps between object files.
type Slot = Option<&'static CallSite>;

#[cfg(unix)]
mod section {
    use super::Slot;

    // The linker defines these symbols for a section whose name is an identifier.
    unsafe extern "C" {
        #[cfg_attr(target_vendor = "apple", link_name = "\x01section$start$__DATA$__bitnet_trace")]
        #[cfg_attr(not(target_vendor = "apple"), link_name = "__start_bitnet_trace")]
        static START: [usize; 0];
        #[cfg_attr(target_vendor = "apple", link_name = "\x01section$end$__DATA$__bitnet_trace")]
        #[cfg_attr(not(target_vendor = "apple"), link_name = "__stop_bitnet_trace")]
        static STOP: [usize; 0];
    }

    pub(super) fn elements() -> &'static [Slot] {
        let (start, stop) = (&raw const START, &raw const STOP);
        let bytes = stop.addr().saturating_sub(start.addr());
        // SAFETY: the section holds nothing but references of this type, initialised by the loader
        // and never written; the linker's two symbols are its bounds.
        unsafe { std::slice::from_raw_parts(start.cast(), bytes / size_of::<Slot>()) }
    }
}

#[cfg(windows)]
mod section {
    use super::Slot;

    // The linker sorts the parts of a section by the text after the dollar sign.
    #[used]
    #[unsafe(link_section = ".btrace$a")]
    static START: [Slot; 0] = [];
    #[used]
    #[unsafe(link_section = ".btrace$z")]
    static STOP: [Slot; 0] = [];

    pub(super) fn elements() -> &'static [Slot] {
        let (start, stop) = (&raw const START, &raw const STOP);
        let bytes = stop.addr().saturating_sub(start.addr());
        // SAFETY: between the two are only references of this type and zeros, initialised by the loader
        // and never written.
        unsafe { std::slice::from_raw_parts(start.cast(), bytes / size_of::<Slot>()) }
    }
}

#[cfg(not(any(unix, windows)))]
mod section {
    use super::Slot;

    pub(super) fn elements() -> &'static [Slot] {
        &[]
    }
}
