"""The places of the framework's script that are changed on its way to the browser.

The framework (gradio 6.31) takes every input of every handler that was ever answered for one that shows a status, and
sets the status of all of them anew twice for each event: nine tenths of the script's work at a click, and more with
each click. It makes its tree of components twice, through proxies that notice changes, and looks through the whole of
it for each thing that changes: half of the time until the page stood. Each change is an exact piece of text that
stands once in a file; where it does not, as in another version of the framework, the file is served as it is, and the
page works as before, only slower.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import gradio

ASSETS = Path(gradio.__file__).parent / "templates" / "frontend" / "assets"


@dataclass(frozen=True)
class Change:
    """A piece of the framework's script, by the beginning of its file's name, and what stands in its place."""

    file: str
    before: str
    after: str


# The framework's word for: run this handler again, and only this one.
_ONCE_MORE = "this.dispatch({type:`fn`,fn_index:r.id,event_data:e.event_data,target_id:l})"

CHANGES = (
    # An answered handler has closed a stream only if it had one.
    Change(
        "Blocks-",
        "if(s.stage===`complete`){n=`closed`,",
        "if(s.stage===`complete`){r.connection_type===`stream`&&(n=`closed`),",
    ),
    # A change that came while the handler worked is still to be shown when that work failed.
    Change(
        "Blocks-",
        "c&&this.clear_submission(r.id,c),o.forEach(",
        f"c&&this.clear_submission(r.id,c),this.queue.delete(r.id)&&{_ONCE_MORE},o.forEach(",
    ),
    # A handler whose change came while it worked runs once more, and with it every other handler of that change ran.
    # Each that was at work then did the same: two that follow one change kept each other going for ever.
    Change(
        "Blocks-",
        "(this.queue.delete(r.id),this.dispatch(e));return}",
        f"(this.queue.delete(r.id),{_ONCE_MORE});return}}",
    ),
    Change(
        "Blocks-",
        "(this.queue.delete(r.id),this.dispatch(e))}}catch{",
        f"(this.queue.delete(r.id),{_ONCE_MORE})}}}}catch{{",
    ),
    # The clock of the first "Loading" went on sixty times a second for ever after; others did where nobody saw them.
    Change("statustracker-", "/1e3),W&&ze()})}", "/1e3),W&&U?.isConnected&&ze()})}"),
    Change("statustracker-", "W=!0,ze())}function He()", "W=!0,w(Ne)||ze())}function He()"),
    # What the browser kept was told as a change when the page opened, beside the page's own load: a page that is loaded
    # again asked everything twice, and each handler that follows the language once for nothing.
    Change(
        "Index-",
        "s.props.value=JSON.parse(t)}catch(e){console.error(`Error reading from localStorage:`",
        "s.props.value=JSON.parse(t),d=s.props.value}catch(e){console.error(`Error reading from localStorage:`",
    ),
    # The tree of components was made twice when the page opened: once, and at once again as for a changed page.
    Change(
        "Blocks-",
        "le(()=>{v(),oe(()=>{O.reload(",
        "let wbMade=!1;le(()=>{if(v(),!wbMade){wbMade=!0;return}oe(()=>{O.reload(",
    ),
    # Each component looked through all handlers for those that follow it: components times handlers times targets.
    Change(
        "core-",
        "e=>this.find_attached_events(e,this.#n)",
        "((n,r)=>{for(let e of n){let t=new Set;for(let[n,i]of e.targets)t.has(n)||(t.add(n),"
        "i&&(r.has(n)?r.get(n).push(i):r.set(n,[i])))}"
        "return e=>(e.props.shared_props.attached_events=r.get(e.id)??[],e)})(this.#n,new Map)",
    ),
    # A component was found by walking the whole tree, four times for each thing that an answer changes.
    Change(
        "core-",
        "function Z(e,t){if(e.id===t)return e;if(e.children)for(let n of e.children){let e=Z(n,t);if(e)return e}"
        "return null}",
        "const wbPlaces=new WeakMap;function Z(e,t){let n=wbPlaces.get(e);if(!n){wbPlaces.set(e,n=new Map);"
        "let t=e=>{n.has(e.id)||n.set(e.id,e);if(e.children)for(let n of e.children)t(n)};t(e)}"
        "return n.get(t)??null}",
    ),
    Change(
        "core-",
        "a.children=i.children,this.#f(i)",
        "a.children=i.children,typeof wbPlaces==`object`&&wbPlaces.delete(this.root),this.#f(i)",
    ),
    # What a handler says beyond its values is asked of its components only where it says something.
    Change(
        "Blocks-",
        "async set_event_args(e,t){let n={},",
        "async set_event_args(e,t){if(Object.keys(t).length===0)return()=>{};let n={},",
    ),
    # What the server says of the page was read through proxies that notice changes; it never changes.
    Change("Index-", "(M,S(G).get_url_config(),!0)", "(M,S(G).get_url_config())"),
    # The tree was made and gone through seven times behind such proxies; now it is done when it is put behind them.
    Change(
        "core-",
        "new Map);this.root.children=this.#t.children.map(e=>this.traverse(e,e=>this.create_node(e,c,!1,"
        "this.reactive_formatter))),this.component_ids=e.map(e=>e.id),this.initial_tabs={},"
        "X(this.root,this.initial_tabs),this.postprocess(this.root),",
        "new Map);this.root_untracked=this.create_node({id:t.id,children:[]},new Map,!0);"
        "this.root_untracked.children=this.#t.children.map(e=>this.traverse(e,e=>this.create_node(e,c,!1,"
        "this.reactive_formatter))),this.component_ids=e.map(e=>e.id),this.initial_tabs={},"
        "X(this.root_untracked,this.initial_tabs),this.postprocess(this.root_untracked),",
    ),
    # An answer to a control that is not drawn, such as a hidden field, walked the whole tree for what it makes visible.
    Change(
        "core-",
        "(n.props.shared_props.visible=t.visible),q(this.root,this.#r.api_url)",
        "(n.props.shared_props.visible=t.visible),`visible`in t&&q(this.root,this.#r.api_url)",
    ),
    # The page's own script has asked already what the page asks first; its answers are of this session.
    Change(
        "index-",
        "session_hash=Math.random().toString(36).substring(2);",
        "session_hash=window.workbenchSession??Math.random().toString(36).substring(2);",
    ),
)  # fmt: skip


@lru_cache(maxsize=1)
def changed_files() -> dict[str, bytes]:
    """Return the files that are changed, by name; those without any of the pieces are not among them."""
    found: dict[str, str] = {}
    for change in CHANGES:
        for path in ASSETS.glob(f"{change.file}*.js"):
            script = found.get(path.name) or path.read_text(encoding="utf-8")
            if script.count(change.before) == 1:
                found[path.name] = script.replace(change.before, change.after)
    return {name: script.encode() for name, script in found.items()}
