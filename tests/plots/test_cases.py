"""The case study's queries and replies as they are drawn."""

from cbtllm_utils.paper import case_study
from cbtllm_utils.plots import cases


def test_each_query_has_its_own_replies_and_the_published_one_keeps_the_papers_components(tmp_path):
    paper = case_study.published()
    post = {"questionID": 7, "question": "不想活了", "description": "没人知道。", "topic": "家庭", "risk": True}
    answers = case_study.recorded_replies([paper])
    for number in ("figure 4", 7):
        answers.append({"system": "qwen-7b", "questionID": number, "reply": "你好。", "finish_reason": "stop"})
    described = case_study.describe(answers, [paper, post], tmp_path)
    (query, to_query), (other, to_other) = cases.all_cases(paper, [post], answers, described)
    assert query.title == "The paper's query" and other.title == "Test post 7 (family 家庭, flagged for risk)"
    titles = ["Published reply", "Published reply, the paper's translation", "Qwen-7B, tuned"]
    assert [reply.title for reply in to_query] == titles and [reply.title for reply in to_other] == titles[2:]
    assert to_query[0].segments == [(name, chinese) for name, chinese, _ in paper["sections"]]
    assert to_other[0].warning.startswith("To a post flagged for risk, NOT READ BY A PERSON")
