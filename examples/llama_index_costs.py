"""The built-in model as the LLM of a llama_index query engine, and what every query cost: tokens, KV cache, seconds.

Needs `pip install "llamalab[llama-index]"`; nothing is downloaded.
"""

import argparse
from typing import Any

from llama_index.core import PromptTemplate, Settings, SummaryIndex
from llama_index.core.llms import CompletionResponse, CompletionResponseGen, CustomLLM, LLMMetadata
from llama_index.core.schema import TextNode
from pydantic import PrivateAttr

import llamalab
from llamalab.formatting import format_bytes

# As short as can be: a small model has a small context.
QUESTION = PromptTemplate("{context_str}\n{query_str}")


class LocalLlama(CustomLLM):
    """A checkpoint as an LLM of llama_index; `costs` has a line for every completion."""

    generate: int = 24
    _model: Any = PrivateAttr()
    _tokenizer: Any = PrivateAttr()
    _costs: list[dict[str, Any]] = PrivateAttr(default_factory=list)

    def __init__(self, checkpoint: str, tokenizer: str, **options: Any) -> None:
        super().__init__(**options)
        self._model, self._tokenizer = llamalab.load(checkpoint), llamalab.load_tokenizer(tokenizer)

    @property
    def costs(self) -> list[dict[str, Any]]:
        """What each completion cost."""
        return self._costs

    @property
    def metadata(self) -> LLMMetadata:
        """How much fits."""
        return LLMMetadata(context_window=self._model.arch.max_positions, num_output=self.generate)

    def complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponse:
        """Continue a prompt and keep what it cost."""
        result = llamalab.generate(
            self._model, prompt, generate=self.generate, tokenizer=self._tokenizer, temperature=0
        )
        self._costs.append({key: value for key, value in result.to_dict().items() if key != "text"})
        return CompletionResponse(text=result.text)

    def stream_complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponseGen:
        """The same in one piece: a cost is known when it is over."""
        yield self.complete(prompt)


def main(argv: list[str] | None = None) -> None:
    """Ask two questions of two texts, and print the costs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="a checkpoint")
    parser.add_argument("--tokenizer", required=True)
    args = parser.parse_args(argv)
    llm = LocalLlama(args.model, args.tokenizer)
    Settings.tokenizer = llm._tokenizer.encode  # llama_index's own would be another vocabulary
    nodes = [TextNode(text="Lily has a red ball."), TextNode(text="Tom has a blue car.")]
    engine = SummaryIndex(nodes).as_query_engine(llm=llm, text_qa_template=QUESTION, response_mode="simple_summarize")
    for question in ("What does Lily have?", "Who has a car?"):
        print(f"{question}\n  {str(engine.query(question)).strip()!r}")
    for number, cost in enumerate(llm.costs, 1):
        print(
            f"query {number}: {cost['prompt_tokens']} + {cost['generated_tokens']} tokens, KV cache "
            f"{format_bytes(cost['kv_bytes'])}, {1e3 * cost['total_s']:.0f} ms"
        )


if __name__ == "__main__":
    main()
